//! As much of a server's certificate (RFC 5280) as libpq looks at and rustls does not show: the algorithm of its signature for
//! channel binding, its common name, and the parts of a version 1 certificate, which PostgreSQL's own documentation
//! makes people create and webpki refuses.

use rustls::crypto::WebPkiSupportedAlgorithms;
use sha2::{Digest, Sha256, Sha384, Sha512};

/// A certificate taken apart. Slices are contents without their outer tag and length, unless said otherwise.
#[derive(Debug)]
pub(super) struct Certificate<'c> {
    /// 1 or 3.
    pub(super) version: u8,
    /// What is signed: tag and length included.
    signed: &'c [u8],
    signature_algorithm: &'c [u8],
    signature: &'c [u8],
    issuer: &'c [u8],
    subject: &'c [u8],
    /// Seconds since 1970, from and to.
    validity: (i64, i64),
    key_algorithm: &'c [u8],
    key: &'c [u8],
    extensions: &'c [u8],
}

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OID: u8 = 0x06;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;

/// A reader of DER: tag, length, contents.
struct Der<'d>(&'d [u8]);

impl<'d> Der<'d> {
    /// Tag, contents, and all of the element.
    fn element(&mut self) -> Option<(u8, &'d [u8], &'d [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, header) = if first < 0x80 {
            (usize::from(first), 2)
        } else {
            let count = usize::from(first & 0x7f);
            if count == 0 || count > 4 || rest.len() < count {
                return None;
            }
            let length = rest[..count].iter().fold(0usize, |length, byte| length << 8 | usize::from(*byte));
            (length, 2 + count)
        };
        let end = header.checked_add(length)?;
        if self.0.len() < end {
            return None;
        }
        let all = &self.0[..end];
        self.0 = &self.0[end..];
        Some((tag, &all[header..], all))
    }

    fn expect(&mut self, wanted: u8) -> Option<&'d [u8]> {
        self.element().and_then(|(tag, contents, _)| (tag == wanted).then_some(contents))
    }

    fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }
}

impl<'c> Certificate<'c> {
    /// Takes a DER certificate apart; `None` if it is none.
    pub(super) fn parse(der: &'c [u8]) -> Option<Self> {
        let mut outer = Der(Der(der).expect(SEQUENCE)?);
        let (tag, body, signed) = outer.element()?;
        if tag != SEQUENCE {
            return None;
        }
        let signature_algorithm = outer.expect(SEQUENCE)?;
        let signature = bits(outer.expect(BIT_STRING)?)?;

        let mut body = Der(body);
        let version = if body.peek() == Some(0xa0) {
            let number = Der(body.expect(0xa0)?).expect(0x02)?;
            number.last()?.checked_add(1)?
        } else {
            1
        };
        body.expect(0x02)?;
        body.expect(SEQUENCE)?;
        let issuer = body.expect(SEQUENCE)?;
        let mut dates = Der(body.expect(SEQUENCE)?);
        let validity = (time(dates.element()?)?, time(dates.element()?)?);
        let subject = body.expect(SEQUENCE)?;
        let mut key_info = Der(body.expect(SEQUENCE)?);
        let key_algorithm = key_info.expect(SEQUENCE)?;
        let key = bits(key_info.expect(BIT_STRING)?)?;
        let mut extensions: &[u8] = &[];
        while let Some((tag, contents, _)) = body.element() {
            if tag == 0xa3 {
                extensions = Der(contents).expect(SEQUENCE)?;
            }
        }
        Some(Self {
            version,
            signed,
            signature_algorithm,
            signature,
            issuer,
            subject,
            validity,
            key_algorithm,
            key,
            extensions,
        })
    }

    /// The hash of the certificate by RFC 5929's `tls-server-end-point`: that of its signature, SHA-256 in the place of MD5 and
    /// SHA-1. `None` where the signature has none of its own (Ed25519).
    pub(super) fn end_point_hash(&self, der: &[u8]) -> Option<Vec<u8>> {
        let mut algorithm = Der(self.signature_algorithm);
        let mut oid = algorithm.expect(OID)?;
        // RSASSA-PSS: the hash stands in the parameters, [0] { SEQUENCE { OID } }.
        if oid == [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a] {
            let mut parameters = Der(algorithm.expect(SEQUENCE)?);
            oid = Der(Der(parameters.expect(0xa0)?).expect(SEQUENCE)?).expect(OID)?;
        }
        match oid {
            // md5, sha1 and sha256 with RSA; SHA-1 and SHA-256 with ECDSA; SHA-256 itself.
            [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 4 | 5 | 11]
            | [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01]
            | [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 2]
            | [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 1] => Some(Sha256::digest(der).to_vec()),
            [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 12]
            | [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 3]
            | [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 2] => Some(Sha384::digest(der).to_vec()),
            [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 13]
            | [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 4]
            | [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 3] => Some(Sha512::digest(der).to_vec()),
            _ => None,
        }
    }

    /// Whether `now` (seconds since 1970) lies in its validity.
    pub(super) fn is_valid_at(&self, now: i64) -> bool {
        (self.validity.0..=self.validity.1).contains(&now)
    }

    /// Whether `authority` signed this certificate and may do so.
    pub(super) fn is_signed_by(&self, authority: &Certificate<'_>, algorithms: &WebPkiSupportedAlgorithms) -> bool {
        self.issuer == authority.subject
            && authority.is_authority()
            && algorithms.all.iter().any(|algorithm| {
                algorithm.signature_alg_id().as_ref() == self.signature_algorithm
                    && algorithm.public_key_alg_id().as_ref() == authority.key_algorithm
                    && algorithm.verify_signature(authority.key, self.signed, self.signature).is_ok()
            })
    }

    /// Whether the holder of this certificate's key made this signature of a TLS handshake.
    pub(super) fn has_signed(
        &self,
        message: &[u8],
        scheme: rustls::SignatureScheme,
        signature: &[u8],
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> bool {
        algorithms
            .mapping
            .iter()
            .filter(|(known, _)| *known == scheme)
            .flat_map(|(_, candidates)| candidates.iter())
            .any(|algorithm| {
                algorithm.public_key_alg_id().as_ref() == self.key_algorithm
                    && algorithm.verify_signature(self.key, message, signature).is_ok()
            })
    }

    /// The first common name of the subject.
    fn common_name(&self) -> Option<&'c str> {
        let mut subject = Der(self.subject);
        while let Some(set) = subject.expect(SET) {
            let mut set = Der(set);
            while let Some(attribute) = set.expect(SEQUENCE) {
                let mut attribute = Der(attribute);
                if attribute.expect(OID) == Some(&[0x55, 0x04, 0x03]) {
                    return attribute.element().and_then(|(_, text, _)| std::str::from_utf8(text).ok());
                }
            }
        }
        None
    }

    /// Whether the common name speaks for `host`: libpq's rule (pq_verify_peer_name_matches_certificate), which looks at it
    /// only if no alternative name is of the host's kind.
    pub(super) fn common_name_matches(&self, host: &str) -> bool {
        let kind = if host.parse::<std::net::IpAddr>().is_ok() { 0x87 } else { 0x82 };
        !self.alternative_name_kinds().contains(&kind)
            && self.common_name().is_some_and(|name| name_matches(name, host))
    }

    fn alternative_name_kinds(&self) -> Vec<u8> {
        let Some(names) = self.extension(&[0x55, 0x1d, 0x11]).and_then(|value| Der(value).expect(SEQUENCE)) else {
            return Vec::new();
        };
        let mut names = Der(names);
        std::iter::from_fn(|| names.element().map(|(tag, _, _)| tag)).collect()
    }

    /// Version 1 knows no such thing; a root of that version is one by being named as one.
    fn is_authority(&self) -> bool {
        let constraints = || Der(self.extension(&[0x55, 0x1d, 0x13])?).expect(SEQUENCE);
        self.version == 1
            || constraints().is_some_and(|value| Der(value).expect(0x01).is_some_and(|truth| truth == [0xff]))
    }

    fn extension(&self, wanted: &[u8]) -> Option<&'c [u8]> {
        let mut extensions = Der(self.extensions);
        while let Some(extension) = extensions.expect(SEQUENCE) {
            let mut extension = Der(extension);
            if extension.expect(OID) == Some(wanted) {
                if extension.peek() == Some(0x01) {
                    extension.element()?;
                }
                return extension.expect(OCTET_STRING);
            }
        }
        None
    }
}

/// A name of a certificate against a host: equal, or `*.` for exactly one label.
fn name_matches(name: &str, host: &str) -> bool {
    if name.contains('\0') {
        return false;
    }
    match name.strip_prefix("*.") {
        Some(rest) => {
            host.split_once('.').is_some_and(|(label, domain)| !label.is_empty() && domain.eq_ignore_ascii_case(rest))
        }
        None => name.eq_ignore_ascii_case(host),
    }
}

/// The bits of a BIT STRING that has no unused ones.
fn bits(contents: &[u8]) -> Option<&[u8]> {
    contents.split_first().and_then(|(unused, bits)| (*unused == 0).then_some(bits))
}

/// UTCTime or GeneralizedTime, in seconds since 1970.
fn time((tag, contents, _): (u8, &[u8], &[u8])) -> Option<i64> {
    let text = std::str::from_utf8(contents).ok()?;
    let full = match tag {
        0x17 if text.get(..2)?.parse::<u8>().ok()? >= 50 => format!("19{text}"),
        0x17 => format!("20{text}"),
        0x18 => text.to_owned(),
        _ => return None,
    };
    Some(chrono::NaiveDateTime::parse_from_str(&full, "%Y%m%d%H%M%SZ").ok()?.and_utc().timestamp())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names() {
        for (name, host, expected) in [
            ("db.example.org", "DB.example.org", true),
            ("*.example.org", "db.example.org", true),
            ("*.example.org", "a.db.example.org", false),
            ("*.example.org", "example.org", false),
            ("*.example.org", ".example.org", false),
            ("d*.example.org", "db.example.org", false),
            ("db.example.org\0.evil.org", "db.example.org", false),
        ] {
            assert_eq!(name_matches(name, host), expected, "{name} {host}");
        }
    }

    #[test]
    fn times() {
        assert_eq!(time((0x17, b"700101000001Z", b"")), Some(1));
        assert_eq!(time((0x17, b"491231235959Z", b"")), Some(2_524_607_999));
        assert_eq!(time((0x18, b"20500101000000Z", b"")), Some(2_524_608_000));
        assert_eq!(time((0x18, b"nonsense", b"")), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Certificate::parse(&bytes);
        }
    }
}
