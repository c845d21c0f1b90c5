//! An input made out of others, after AFL's and libFuzzer's mutations.

use crate::random::Random;

/// Numbers at which parsers go wrong.
const NUMBERS: [u64; 12] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0xffff_ffff_ffff_ffff,
];

/// Digits at which parsers of text go wrong.
const DIGITS: [&str; 8] =
    ["0", "-1", "2147483648", "4294967296", "9223372036854775808", "18446744073709551616", "1e999", "00"];

/// A mutation of one of `seeds`: one to eight changes, `longest` bytes at most.
pub(crate) fn mutated(random: &mut Random, seeds: &[Vec<u8>], words: &[&[u8]], longest: usize) -> Vec<u8> {
    let mut input = random.pick(seeds).cloned().unwrap_or_default();
    for _ in 0..=random.below(8) {
        change(random, &mut input, seeds, words);
        input.truncate(longest);
    }
    input
}

fn change(random: &mut Random, input: &mut Vec<u8>, seeds: &[Vec<u8>], words: &[&[u8]]) {
    let at = random.below(input.len());
    match random.below(12) {
        // A bit, a byte, or the next one.
        0 => with(input, at, |byte| *byte ^= 1 << random.below(8)),
        1 => with(input, at, |byte| *byte = random.next() as u8),
        2 => with(input, at, |byte| *byte = byte.wrapping_add(if random.below(2) == 0 { 1 } else { 255 })),
        // A number of some width, either end first.
        3 => {
            let number = random.pick(&NUMBERS).copied().unwrap_or_default();
            let (little, big) = (number.to_le_bytes(), number.to_be_bytes());
            let width = [1, 2, 4, 8][random.below(4)];
            let bytes = if random.below(2) == 0 { &little[..width] } else { &big[8 - width..] };
            overwrite(input, at, bytes);
        }
        // Something less, more, twice, or of another input.
        4 => {
            let length = random.below((input.len() - at).min(64)) + 1;
            input.drain(at..(at + length).min(input.len()));
        }
        5 => input.truncate(at),
        6 => {
            let length = random.below((input.len() - at).min(64));
            let piece = input[at..at + length].to_vec();
            let to = random.below(input.len() + 1);
            input.splice(to..to, piece);
        }
        7 => {
            let byte = random.next() as u8;
            let length = random.below(40);
            input.splice(at..at, std::iter::repeat_n(byte, length));
        }
        8 => {
            let other = random.pick(seeds).cloned().unwrap_or_default();
            let from = random.below(other.len());
            input.truncate(at);
            input.extend_from_slice(&other[from.min(other.len())..]);
        }
        9 => {
            let other = random.pick(seeds).cloned().unwrap_or_default();
            let from = random.below(other.len());
            let length = random.below((other.len() - from).min(64));
            overwrite(input, at, &other[from..from + length]);
        }
        // A word of the format, or other digits.
        10 => {
            if let Some(word) = random.pick(words) {
                input.splice(at..at, word.iter().copied());
            }
        }
        _ => {
            let digits = random.pick(&DIGITS).copied().unwrap_or_default();
            let first =
                input.get(at..).and_then(|rest| rest.iter().position(u8::is_ascii_digit)).map_or(at, |step| at + step);
            let length = input[first.min(input.len())..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            input.splice(first..first + length, digits.bytes());
        }
    }
}

fn with(input: &mut [u8], at: usize, change: impl FnOnce(&mut u8)) {
    if let Some(byte) = input.get_mut(at) {
        change(byte);
    }
}

fn overwrite(input: &mut [u8], at: usize, bytes: &[u8]) {
    for (byte, new) in input.iter_mut().skip(at).zip(bytes) {
        *byte = *new;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mutations_are_the_same_every_time_and_never_too_long() {
        let seeds = [b"one".to_vec(), Vec::new(), vec![7; 300]];
        let run = || {
            let mut random = Random::new(7);
            (0..2000).map(|_| mutated(&mut random, &seeds, &[b"word"], 320)).collect::<Vec<_>>()
        };
        let inputs = run();
        assert_eq!(inputs, run());
        assert!(inputs.iter().all(|input| input.len() <= 320));
        assert!(inputs.iter().collect::<std::collections::BTreeSet<_>>().len() > 1000);
    }
}
