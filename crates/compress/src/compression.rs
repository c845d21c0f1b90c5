//! Which compression: as set, as named, as found.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::gzip::Gzip;
use crate::lz4::Lz4;
use crate::plain::Plain;
use crate::zstandard::Zstd;
use crate::{Codec, Error, Result};

/// A compression setting: `zstd:3`, `zstd`, `gzip:9`, `gzip`, `lz4`, `none`; labels such as `gzip-9` are understood too.
///
/// Displayed as the setting, level included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// No compression.
    None,
    /// gzip members, level 1 to 9.
    Gzip(u8),
    /// LZ4 frames.
    Lz4,
    /// zstd frames, level 1 to 19.
    Zstd(u8),
}

impl Compression {
    /// gzip at the level that the stock tool uses by default.
    pub const GZIP: Self = Self::Gzip(6);
    /// zstd at the level that the stock tool uses by default.
    pub const ZSTD: Self = Self::Zstd(3);

    /// The codec. A level out of range is taken as the nearest one in it.
    pub fn codec(self) -> Arc<dyn Codec> {
        match self {
            Self::None => Arc::new(Plain),
            Self::Gzip(level) => Arc::new(Gzip::new(level)),
            Self::Lz4 => Arc::new(Lz4),
            Self::Zstd(level) => Arc::new(Zstd::new(level)),
        }
    }
}

/// zstd at level 1: on databases' text it is as small as level 3 or smaller, in half the time (docs/BENCHMARKS.md).
impl Default for Compression {
    fn default() -> Self {
        Self::Zstd(1)
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => formatter.write_str("none"),
            Self::Gzip(level) => write!(formatter, "gzip:{level}"),
            Self::Lz4 => formatter.write_str("lz4"),
            Self::Zstd(level) => write!(formatter, "zstd:{level}"),
        }
    }
}

impl FromStr for Compression {
    type Err = Error;

    fn from_str(setting: &str) -> Result<Self> {
        let refused = || Error::Setting { setting: setting.to_owned() };
        let (name, level) = match setting.trim().split_once([':', '-']) {
            Some((name, level)) => (name, Some(level.parse::<u8>().map_err(|_| refused())?)),
            None => (setting.trim(), None),
        };
        match (name.to_ascii_lowercase().as_str(), level) {
            ("none", None) => Ok(Self::None),
            ("lz4", None) => Ok(Self::Lz4),
            ("gzip", None) => Ok(Self::GZIP),
            ("gzip", Some(level @ 1..=9)) => Ok(Self::Gzip(level)),
            ("zstd", None) => Ok(Self::ZSTD),
            ("zstd", Some(level @ 1..=19)) => Ok(Self::Zstd(level)),
            _ => Err(refused()),
        }
    }
}

/// The codec that writes files with this extension (`.gz`, `.zst`, `.lz4`, or empty), at its default level.
pub fn codec_for_extension(extension: &str) -> Option<Arc<dyn Codec>> {
    [Compression::None, Compression::GZIP, Compression::ZSTD, Compression::Lz4]
        .into_iter()
        .map(Compression::codec)
        .find(|codec| codec.extension() == extension)
}

/// The codec of a file that begins with these bytes, by the format's magic number: four bytes suffice.
///
/// `None` if they are no compressed format's, as in a plain archive.
pub fn detect(first: &[u8]) -> Option<Arc<dyn Codec>> {
    let compression = match first {
        [0x1f, 0x8b, ..] => Compression::GZIP,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::ZSTD,
        [0x04, 0x22, 0x4d, 0x18, ..] => Compression::Lz4,
        _ => return None,
    };
    Some(compression.codec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_and_labels_are_understood() {
        for (setting, meaning, shown, label) in [
            ("zstd:1", Compression::Zstd(1), "zstd:1", "zstd-1"),
            ("zstd-19", Compression::Zstd(19), "zstd:19", "zstd-19"),
            ("zstd", Compression::Zstd(3), "zstd:3", "zstd-3"),
            ("GZIP:9", Compression::Gzip(9), "gzip:9", "gzip-9"),
            (" gzip ", Compression::Gzip(6), "gzip:6", "gzip-6"),
            ("lz4", Compression::Lz4, "lz4", "lz4"),
            ("none", Compression::None, "none", "none"),
        ] {
            let compression: Compression = setting.parse().unwrap();
            assert_eq!(compression, meaning, "{setting}");
            assert_eq!(compression.to_string(), shown);
            assert_eq!(compression.codec().label(), label);
            assert_eq!(shown.parse::<Compression>().unwrap(), meaning);
            assert_eq!(label.parse::<Compression>().unwrap(), meaning);
        }
    }

    #[test]
    fn other_settings_are_refused_by_name() {
        for setting in
            ["", "zstd:0", "zstd:20", "zstd:", "zstd:+", "gzip:10", "lz4:1", "none:0", "xz", "zstd:3:3", "-1"]
        {
            let error = setting.parse::<Compression>().unwrap_err();
            assert!(error.to_string().contains(&format!("{setting:?}")), "{error}");
        }
    }

    #[test]
    fn codecs_are_found_by_extension() {
        for (extension, label) in [(".gz", "gzip-6"), (".zst", "zstd-3"), (".lz4", "lz4"), ("", "none")] {
            assert_eq!(codec_for_extension(extension).unwrap().label(), label);
        }
        assert!(codec_for_extension(".xz").is_none());
        assert!(codec_for_extension("zst").is_none());
    }
}
