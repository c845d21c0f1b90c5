//! How a session is to be encrypted, and whom it trusts.

use std::path::PathBuf;

use super::Values;
use crate::{Error, Result};

/// `sslmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SslMode {
    Disable,
    Allow,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

impl SslMode {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Allow => "allow",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}

/// Whose word on a certificate counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Roots {
    /// Nobody's: the certificate is not verified.
    None,
    /// The system's certificate authorities.
    System,
    /// Those in a file.
    File(PathBuf),
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TlsVersion {
    V12,
    V13,
}

impl TlsVersion {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::V12 => "TLSv1.2",
            Self::V13 => "TLSv1.3",
        }
    }
}

/// Everything about TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TlsSettings {
    /// As effective: `require` with a root certificate is `verify-ca`.
    pub(crate) mode: SslMode,
    /// TLS from the first byte (PostgreSQL 17 and later) instead of asking first.
    pub(crate) direct: bool,
    pub(crate) roots: Roots,
    /// Our own certificate and its key.
    pub(crate) certificate: Option<(PathBuf, PathBuf)>,
    pub(crate) revoked: Option<PathBuf>,
    pub(crate) name_indication: bool,
    pub(crate) minimum: TlsVersion,
    pub(crate) maximum: Option<TlsVersion>,
}

impl TlsSettings {
    /// libpq's rules (fe-connect.c, initialize_SSL in fe-secure-openssl.c).
    pub(super) fn resolve(values: &Values, home: Option<&PathBuf>) -> Result<Self> {
        let default_file =
            |name: &str| home.map(|home| home.join(".postgresql").join(name)).filter(|path| path.exists());
        let file = |parameter: &str| values.get(parameter).map(PathBuf::from);

        let asked = values.choice(
            "sslmode",
            &[
                ("disable", SslMode::Disable),
                ("allow", SslMode::Allow),
                ("prefer", SslMode::Prefer),
                ("require", SslMode::Require),
                ("verify-ca", SslMode::VerifyCa),
                ("verify-full", SslMode::VerifyFull),
            ],
        )?;
        let asked = match asked {
            None if values.get("requiressl") == Some("1") => Some(SslMode::Require),
            asked => asked,
        };
        let system = values.get("sslrootcert") == Some("system");
        let mut mode = asked.unwrap_or(if system { SslMode::VerifyFull } else { SslMode::Prefer });
        if system && mode < SslMode::VerifyFull {
            return Err(Error::setting(
                values.origin("sslmode"),
                "is too weak for sslrootcert=system; anybody can have a certificate of such an authority, so only verify-full will do",
            ));
        }
        let roots = match file("sslrootcert") {
            Some(_) if system => Roots::System,
            Some(path) if path.exists() => Roots::File(path),
            Some(path) if mode >= SslMode::VerifyCa => {
                return Err(Error::setting(
                    values.origin("sslrootcert"),
                    format!("names a file that does not exist: {}", path.display()),
                ));
            }
            Some(_) => Roots::None,
            None => default_file("root.crt").map_or(Roots::None, Roots::File),
        };
        if mode >= SslMode::VerifyCa && roots == Roots::None {
            return Err(Error::setting(
                values.origin("sslmode"),
                "asks for a verified certificate, but there is no root certificate: give sslrootcert=FILE, \
                 or sslrootcert=system for the system's certificate authorities, or put ~/.postgresql/root.crt there",
            ));
        }
        if mode == SslMode::Require && roots != Roots::None {
            mode = SslMode::VerifyCa;
        }

        let direct = values.choice("sslnegotiation", &[("postgres", false), ("direct", true)])?.unwrap_or(false);
        if direct && mode < SslMode::Require {
            return Err(Error::setting(values.origin("sslnegotiation"), "direct needs sslmode=require or stronger"));
        }
        let versions = &[
            ("TLSv1", TlsVersion::V12),
            ("TLSv1.1", TlsVersion::V12),
            ("TLSv1.2", TlsVersion::V12),
            ("TLSv1.3", TlsVersion::V13),
        ];
        let minimum = values.choice("ssl_min_protocol_version", versions)?.unwrap_or(TlsVersion::V12);
        let maximum = values.choice("ssl_max_protocol_version", versions)?;
        if matches!(values.get("ssl_max_protocol_version"), Some("TLSv1" | "TLSv1.1"))
            || maximum.is_some_and(|maximum| maximum < minimum)
        {
            return Err(Error::setting(
                values.origin("ssl_max_protocol_version"),
                "leaves no version of TLS; TLSv1.2 and TLSv1.3 are supported",
            ));
        }

        let certificate_mode = values.choice("sslcertmode", &[("disable", false), ("allow", true)])?;
        let certificate = match (file("sslcert"), file("sslkey")) {
            _ if certificate_mode == Some(false) => None,
            (None, key) => default_file("postgresql.crt").zip(key.or_else(|| default_file("postgresql.key"))),
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (Some(certificate), None) => match default_file("postgresql.key") {
                Some(key) => Some((certificate, key)),
                None => return Err(Error::setting(values.origin("sslcert"), "is given without sslkey")),
            },
        };
        if let Some((certificate, key)) = &certificate {
            for (parameter, path) in [("sslcert", certificate), ("sslkey", key)] {
                if mode > SslMode::Disable && !path.exists() {
                    return Err(Error::setting(
                        values.origin(parameter),
                        format!("names a file that does not exist: {}", path.display()),
                    ));
                }
            }
        }
        let revoked = match file("sslcrl") {
            Some(path) if !path.exists() => {
                return Err(Error::setting(
                    values.origin("sslcrl"),
                    format!("names a file that does not exist: {}", path.display()),
                ));
            }
            Some(path) => Some(path),
            None => default_file("root.crl"),
        };
        let name_indication = values.choice("sslsni", &[("1", true), ("0", false)])?.unwrap_or(true);
        Ok(Self { mode, direct, roots, certificate, revoked, name_indication, minimum, maximum })
    }
}
