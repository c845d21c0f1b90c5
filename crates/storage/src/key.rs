//! Names of objects.

use std::fmt;
use std::str::FromStr;

use crate::{Error, Result};

/// Longest key, in bytes: S3's limit, which is the smallest of all stores'.
const MAX_BYTES: usize = 1024;
/// Longest segment, in bytes: a file name's limit on every common file system.
const MAX_SEGMENT_BYTES: usize = 255;

/// Name of an object: non-empty segments joined by `/`; the empty key is the root of a store (as a prefix only).
///
/// A segment is never `.` or `..` and holds no control character and no backslash, so that a key can
/// neither leave the store's root nor mean two things on two stores.
///
/// ```
/// use pgkeep_storage::Key;
/// let key = Key::new("daily/daily_20251017_030001.dump.zst")?;
/// assert_eq!(key.name(), "daily_20251017_030001.dump.zst");
/// assert!(Key::new("../etc/passwd").is_err());
/// # Ok::<(), pgkeep_storage::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

impl Key {
    /// A key from text; refuses empty segments, `.` and `..`, control characters and backslashes,
    /// more than 1,024 bytes, and segments of more than 255 bytes.
    pub fn new(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        match Self::flaw(&text) {
            None => Ok(Self(text)),
            Some(reason) => Err(Error::InvalidKey { text, reason }),
        }
    }

    /// The root of a store, a prefix of every key.
    pub fn root() -> Self {
        Self(String::new())
    }

    /// The key below this one.
    pub fn join(&self, rest: &str) -> Result<Self> {
        if self.is_root() { Self::new(rest) } else { Self::new(format!("{}/{rest}", self.0)) }
    }

    /// The key's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last segment; empty for the root.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// The key without its last segment: the root for a key of one segment, `None` for the root itself.
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        Some(Self(self.0.rsplit_once('/').map_or_else(String::new, |(parent, _)| parent.to_owned())))
    }

    /// The segments, first to last; none for the root.
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/').filter(|segment| !segment.is_empty())
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// What follows `prefix` and its `/`, if this key lies strictly below it: `a/bc` does not lie below `a/b`.
    pub fn below(&self, prefix: &Key) -> Option<&str> {
        if prefix.is_root() {
            return (!self.is_root()).then_some(self.0.as_str());
        }
        self.0.strip_prefix(prefix.as_str())?.strip_prefix('/')
    }

    fn flaw(text: &str) -> Option<&'static str> {
        if text.is_empty() {
            return Some("it is empty");
        }
        if text.len() > MAX_BYTES {
            return Some("it is longer than 1024 bytes");
        }
        text.split('/').find_map(|segment| match segment {
            "" => Some("it has an empty segment"),
            "." | ".." => Some("it has a segment . or .."),
            _ if segment.len() > MAX_SEGMENT_BYTES => Some("it has a segment of more than 255 bytes"),
            _ if segment.contains('\\') => Some("it holds a backslash"),
            _ if segment.chars().any(char::is_control) => Some("it holds a control character"),
            _ => None,
        })
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Key {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::new(text)
    }
}

impl AsRef<str> for Key {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;
    use crate::ErrorKind;

    #[rstest]
    #[case("")]
    #[case("/a")]
    #[case("a/")]
    #[case("a//b")]
    #[case(".")]
    #[case("a/../b")]
    #[case("a/./b")]
    #[case("a\\b")]
    #[case("a\nb")]
    #[case("a\u{7f}b")]
    #[case("a\0b")]
    fn refused(#[case] text: &str) {
        let error = Key::new(text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }

    #[rstest]
    #[case("a")]
    #[case("a/b")]
    #[case(".pgkeep/lock-0001")]
    #[case("..a/b..")]
    #[case("täglich/✓ mit Leerzeichen")]
    fn taken(#[case] text: &str) {
        assert_eq!(Key::new(text).unwrap().as_str(), text);
    }

    #[test]
    fn too_long() {
        assert!(Key::new("x".repeat(255)).is_ok());
        assert!(Key::new("x".repeat(256)).is_err());
        assert!(Key::new(["x".repeat(200).as_str(); 6].join("/")).is_err());
    }

    #[test]
    fn boundaries() {
        let key = Key::new("a/bc/d").unwrap();
        assert_eq!(key.below(&Key::new("a").unwrap()), Some("bc/d"));
        assert_eq!(key.below(&Key::new("a/b").unwrap()), None);
        assert_eq!(key.below(&key), None);
        assert_eq!(key.below(&Key::root()), Some("a/bc/d"));
        assert_eq!(key.parent().unwrap().as_str(), "a/bc");
        assert_eq!(Key::new("a").unwrap().parent(), Some(Key::root()));
        assert_eq!(Key::root().parent(), None);
        assert_eq!(Key::root().segments().count(), 0);
    }

    proptest! {
        #[test]
        fn a_key_never_leaves_its_root(text in "\\PC{0,40}") {
            if let Ok(key) = Key::new(text.clone()) {
                prop_assert_eq!(key.as_str(), &text);
                prop_assert!(key.segments().all(|segment| segment != "." && segment != ".."));
                prop_assert_eq!(key.segments().collect::<Vec<_>>().join("/"), text);
            }
        }

        #[test]
        fn joining_is_undone_by_below(a in "[a-z]{1,8}(/[a-z]{1,8}){0,3}", b in "[a-z]{1,8}") {
            let parent = Key::new(a).unwrap();
            let child = parent.join(&b).unwrap();
            prop_assert_eq!(child.below(&parent), Some(b.as_str()));
            prop_assert_eq!(child.parent(), Some(parent));
        }
    }
}
