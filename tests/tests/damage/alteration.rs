//! What happens to stored objects.

use std::fmt;
use std::path::Path;

/// A kind of stored object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Object {
    Archive,
    Meta,
    Globals,
    Proof,
    Lock,
    Source,
}

impl Object {
    pub(crate) const ALL: [Self; 6] = [Self::Archive, Self::Meta, Self::Globals, Self::Proof, Self::Lock, Self::Source];

    /// Whether the backup is nothing without it.
    pub(crate) fn is_the_backup(self) -> bool {
        matches!(self, Self::Archive | Self::Meta | Self::Globals)
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Archive => "archive",
            Self::Meta => "meta",
            Self::Globals => "globals",
            Self::Proof => "proof",
            Self::Lock => "lock",
            Self::Source => "`source.json`",
        })
    }
}

/// What becomes of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Alteration {
    Deleted,
    Emptied,
    CutInTheMiddle,
    CutByOneByte,
    FlippedAtTheFirst,
    FlippedInTheMiddle,
    FlippedAtTheLast,
    OneByteMore,
    Doubled,
    /// By the object of the same kind of the backup before it.
    Replaced,
    /// With that object.
    Swapped,
}

impl Alteration {
    pub(crate) const ALL: [Self; 11] = [
        Self::Deleted,
        Self::Emptied,
        Self::CutInTheMiddle,
        Self::CutByOneByte,
        Self::FlippedAtTheFirst,
        Self::FlippedInTheMiddle,
        Self::FlippedAtTheLast,
        Self::OneByteMore,
        Self::Doubled,
        Self::Replaced,
        Self::Swapped,
    ];

    /// Alters the file. `other` is the one of the backup before.
    pub(crate) fn apply(self, file: &Path, other: &Path) {
        let sound = std::fs::read(file).unwrap();
        assert!(sound.len() > 2, "{} has nothing to alter", file.display());
        let flipped = |at: usize| {
            let mut bytes = sound.clone();
            bytes[at] ^= 1 << (at % 8);
            bytes
        };
        let altered = match self {
            Self::Deleted => return std::fs::remove_file(file).unwrap(),
            Self::Emptied => Vec::new(),
            Self::CutInTheMiddle => sound[..sound.len() / 2].to_vec(),
            Self::CutByOneByte => sound[..sound.len() - 1].to_vec(),
            Self::FlippedAtTheFirst => flipped(0),
            Self::FlippedInTheMiddle => flipped(sound.len() / 2),
            Self::FlippedAtTheLast => flipped(sound.len() - 1),
            Self::OneByteMore => [&sound[..], b"\n"].concat(),
            Self::Doubled => [&sound[..], &sound[..]].concat(),
            Self::Replaced => std::fs::read(other).unwrap(),
            Self::Swapped => {
                let before = std::fs::read(other).unwrap();
                std::fs::write(other, &sound).unwrap();
                before
            }
        };
        assert_ne!(altered, sound, "{self} changed nothing in {}", file.display());
        std::fs::write(file, altered).unwrap();
    }

    /// Whether the size tells.
    pub(crate) fn is_of_another_size(self) -> bool {
        !matches!(self, Self::FlippedAtTheFirst | Self::FlippedInTheMiddle | Self::FlippedAtTheLast)
    }
}

impl fmt::Display for Alteration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deleted => "deleted",
            Self::Emptied => "cut to nothing",
            Self::CutInTheMiddle => "cut in the middle",
            Self::CutByOneByte => "cut by a byte",
            Self::FlippedAtTheFirst => "a bit flipped in its first byte",
            Self::FlippedInTheMiddle => "a bit flipped in the middle",
            Self::FlippedAtTheLast => "a bit flipped in its last byte",
            Self::OneByteMore => "a byte more",
            Self::Doubled => "there twice over",
            Self::Replaced => "replaced by the one before",
            Self::Swapped => "swapped with the one before",
        })
    }
}
