//! The answer to S3's ListObjectsV2, read by hand.
//!
//! `object_store` refuses a whole page for one name that it takes for no path, such as `a//b`, which anybody may have put there. And
//! it goes on from whatever token it is given, also from one that it has seen before.

use chrono::DateTime;

use super::requests::{tag, unescaped};
use crate::classify::between;
use crate::object::{Listed, Page};

/// One page; the error says what is wrong with it.
pub(super) fn page(answer: &str) -> Result<Page, String> {
    let document = answer.trim_end();
    // `<ListBucketResult/>` is not written by anybody: there is always a name and a count.
    if !document.contains("<ListBucketResult") || !document.ends_with("</ListBucketResult>") {
        return Err("what was answered is no listing".to_owned());
    }
    let encoded = tag(document, "EncodingType").as_deref() == Some("url");
    let objects = document.split("<Contents>").skip(1).map(|rest| {
        let element = rest.split("</Contents>").next().unwrap_or(rest);
        listed(element, encoded).ok_or_else(|| "a listing has an object without name, size or time".to_owned())
    });
    let next = match tag(document, "IsTruncated").as_deref() {
        Some("false") => None,
        truncated => {
            let token = tag(document, "NextContinuationToken");
            if truncated == Some("true") && token.is_none() {
                return Err("a listing ends before its end".to_owned());
            }
            token
        }
    };
    Ok(Page { objects: objects.collect::<Result<_, _>>()?, next })
}

fn listed(element: &str, encoded: bool) -> Option<Listed> {
    let key = unescaped(&between(element, "<Key>", "</Key>")?);
    let modified = DateTime::parse_from_rfc3339(tag(element, "LastModified")?.trim()).ok()?;
    Some(Listed {
        key: if encoded { url_decoded(&key)? } else { key },
        bytes: tag(element, "Size")?.trim().parse().ok()?,
        modified_ms: modified.timestamp_millis(),
        e_tag: tag(element, "ETag"),
    })
}

/// As `encoding-type=url` has it: `+` is a space. `None` for what is no text.
fn url_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                (digit(rest.next())? << 4 | digit(rest.next())?) as u8
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OBJECT: &str = "<Contents><Key>a/R&amp;D &#x1;</Key><LastModified>2026-11-22T12:00:00.500Z</LastModified>\
                          <ETag>&quot;e&quot;</ETag><Size>7</Size><StorageClass>STANDARD</StorageClass></Contents>";

    fn answer(inside: &str) -> String {
        format!("<?xml version=\"1.0\"?>\n<ListBucketResult xmlns=\"x\"><Name>b</Name>{inside}</ListBucketResult>\n")
    }

    #[test]
    fn a_page_is_read() {
        let read = page(&answer(&format!(
            "<IsTruncated>true</IsTruncated><NextContinuationToken>t&amp;</NextContinuationToken>{OBJECT}"
        )));
        let read = read.unwrap();
        let expected = Listed {
            key: "a/R&D \u{1}".to_owned(),
            bytes: 7,
            modified_ms: 1_795_348_800_500,
            e_tag: Some("\"e\"".to_owned()),
        };
        assert_eq!((read.objects.as_slice(), read.next.as_deref()), (&[expected][..], Some("t&")));
        let empty = page(&answer("<NextContinuationToken>t</NextContinuationToken>")).unwrap();
        assert_eq!((empty.objects.len(), empty.next.as_deref()), (0, Some("t")));
        let last =
            page(&answer("<IsTruncated>false</IsTruncated><NextContinuationToken>t</NextContinuationToken>")).unwrap();
        assert_eq!(last.next, None);
    }

    #[test]
    fn names_that_the_store_encodes_are_decoded() {
        let object = OBJECT.replace("a/R&amp;D &#x1;", "a/50%25+gr%C3%B6%C3%9Fer%2B");
        let read = page(&answer(&format!("<EncodingType>url</EncodingType>{object}"))).unwrap();
        assert_eq!(read.objects[0].key, "a/50% größer+");
        assert_eq!(page(&answer(&object)).unwrap().objects[0].key, "a/50%25+gr%C3%B6%C3%9Fer%2B");
    }

    #[test]
    fn what_is_no_whole_listing_is_refused() {
        for refused in [
            "<html>log in first</html>".to_owned(),
            answer("").replace("</ListBucketResult>", ""),
            answer("<IsTruncated>true</IsTruncated>"),
            answer("<Contents><Key>a</Key></Contents>"),
            answer(&format!("<EncodingType>url</EncodingType>{}", OBJECT.replace("a/R", "a/%f"))),
        ] {
            assert!(page(&refused).is_err(), "{refused}");
        }
    }
}
