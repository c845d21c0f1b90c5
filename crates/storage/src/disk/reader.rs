//! Reading a file piece by piece.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use rustix::io::Errno;

use super::dir::{Kind, Stat};
use super::{Place, is_partial, run_blocking};
use crate::{ByteStream, Error, Key, Result};

/// How much is read at a time.
const PIECE_BYTES: u64 = 1024 * 1024;

/// Opens the object `key` for reading all of it, or `range`. Once open it is read to its end, whatever happens to its name.
pub(super) async fn open(place: Arc<Place>, key: Key, range: Option<Range<u64>>) -> Result<ByteStream> {
    let doing = format!("read {key}");
    let found = {
        let (place, key, doing) = (Arc::clone(&place), key.clone(), doing.clone());
        run_blocking(move || find(&place, &key).map_err(|error| place.error(&doing, &error))).await?
    };
    let (file, bytes) = found.ok_or_else(|| place.not_found(&key))?;
    let range = range.unwrap_or(0..bytes);
    if range.start > range.end || range.end > bytes {
        let (location, key) = (place.location.clone(), key.to_string());
        return Err(Error::OutOfRange { key, location, start: range.start, end: range.end, bytes });
    }
    let file = Arc::new(file);
    let pieces = stream::try_unfold(range, move |range| {
        let (place, key, doing, file) = (Arc::clone(&place), key.clone(), doing.clone(), Arc::clone(&file));
        async move {
            if range.is_empty() {
                return Ok(None);
            }
            let end = range.end.min(range.start + PIECE_BYTES);
            let read = run_blocking(move || read_at(&file, range.start..end)).await;
            match read {
                Ok(piece) => Ok(Some((piece, end..range.end))),
                // Files of ours are never cut: somebody else did it.
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                    Err(Error::Changed { key: key.to_string(), location: place.location.clone() })
                }
                Err(error) => Err(place.error(&doing, &error)),
            }
        }
    });
    Ok(pieces.boxed())
}

fn find(place: &Place, key: &Key) -> std::io::Result<Option<(File, u64)>> {
    if is_partial(key.name()) {
        return Ok(None);
    }
    let Some(dir) = place.holder(key)? else { return Ok(None) };
    let file = match dir.open_file(key.name()) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let stat = Stat::of(&file)?;
    Ok((stat.kind == Kind::File).then_some((file, stat.bytes)))
}

fn read_at(file: &File, range: Range<u64>) -> std::io::Result<Bytes> {
    let mut piece = vec![0; (range.end - range.start) as usize];
    file.read_exact_at(&mut piece, range.start)?;
    Ok(piece.into())
}
