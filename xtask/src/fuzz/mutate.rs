//! How inputs are changed: bits, bytes, numbers, values, lines, words, pieces, and the text that a file of numbers begins with.

use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

/// Texts in the place of a number.
const NUMBERS: [&str; 24] = [
    "0",
    "-0",
    "-1",
    "1",
    "2",
    "255",
    "256",
    "65536",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "-9223372036854775808",
    "1e18",
    "1e308",
    "1e309",
    "-1e308",
    "1e-300",
    "5e-324",
    "nan",
    "inf",
    "-inf",
];

/// Texts that stand anywhere.
const WORDS: [&str; 18] = [
    "",
    " ",
    ",",
    ";",
    "\t",
    "\n",
    "\r",
    "\r\n",
    "\"",
    "'",
    "\u{0}",
    "\u{1b}[31m",
    "\u{feff}",
    "\u{202e}",
    "=1+1",
    "..",
    "[[",
    "é",
];

/// Values of every kind, as TOML and JSON write them, in the place of one of another kind.
const VALUES: [&str; 8] = ["3", "1.5", "true", "\"\"", "\"x\"", "[]", "{}", "[[1]]"];

/// Whole numbers in the place of bytes.
const INTEGERS: [u64; 12] = [
    0,
    1,
    2,
    0x7f,
    0x80,
    0xff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    u64::MAX,
];

/// More bytes no input needs.
const MOST_BYTES: usize = 1 << 20;

/// Changes one place of `bytes`, of which pieces may come from `other`.
pub(crate) fn bytes(mut bytes: Vec<u8>, other: &[u8], random: &mut ChaCha8Rng) -> Vec<u8> {
    let text = std::str::from_utf8(&bytes).ok();
    if let Some(text) = text.filter(|_| random.random_bool(0.8)) {
        return self::text(text, random).into_bytes();
    }
    // Files of numbers begin with a text that says how many; it has room at its end.
    if let Some(header) = header(&bytes).filter(|_| random.random_bool(0.3)) {
        let old = String::from_utf8_lossy(&bytes[header.clone()]).into_owned();
        let new = self::text(&old, random);
        bytes.splice(header, format!("{:<width$}", new.trim_end(), width = old.len()).into_bytes());
        bytes.truncate(MOST_BYTES);
        return bytes;
    }
    let at = random.random_range(0..=bytes.len());
    let piece = at..(at + random.random_range(0..64)).min(bytes.len());
    let in_other = random.random_range(0..=other.len());
    let length = [4, 64, 4096][random.random_range(0..3)];
    let of_other = &other[in_other..(in_other + random.random_range(0..=length)).min(other.len())];
    match random.random_range(0..9) {
        0..=2 if at < bytes.len() => bytes[at] ^= 1 << random.random_range(0..8),
        3 if at < bytes.len() => bytes[at] = random.random(),
        4 => bytes.truncate(at),
        5 => drop(bytes.drain(piece)),
        6 => drop(bytes.splice(piece, of_other.iter().copied())),
        7 => drop(bytes.splice(at..at, std::iter::repeat_n(random.random(), random.random_range(1..=length)))),
        _ => {
            let number = INTEGERS.choose(random).expect("there are some");
            let length = [1, 2, 4, 8][random.random_range(0..4)];
            let mut number = number.to_le_bytes()[..length].to_vec();
            if random.random() {
                number.reverse();
            }
            let end = (at + length).min(bytes.len());
            bytes.splice(at..end, number);
        }
    }
    bytes.truncate(MOST_BYTES);
    bytes
}

/// Where the first bytes hold a text of some length.
fn header(bytes: &[u8]) -> Option<std::ops::Range<usize>> {
    let is_text = |byte: &u8| (b' '..=b'~').contains(byte);
    let mut start = 0;
    for piece in bytes[..bytes.len().min(256)].chunk_by(|a, b| is_text(a) == is_text(b)) {
        if piece.len() >= 16 && is_text(&piece[0]) {
            return Some(start..start + piece.len());
        }
        start += piece.len();
    }
    None
}

/// Changes one place of a text: a number, a value, a word, a line, or a letter.
pub(crate) fn text(text: &str, random: &mut ChaCha8Rng) -> String {
    if text.is_empty() {
        return WORDS.choose(random).expect("there are some").to_string();
    }
    let mut lines: Vec<String> = text.split_inclusive('\n').map(String::from).collect();
    let [line, other] = [(); 2].map(|()| random.random_range(0..lines.len()));
    match random.random_range(0..11) {
        0 => drop(lines.remove(line)),
        1 => lines.insert(line, lines[other].clone()),
        2 => lines.swap(line, other),
        3..=5 => {
            lines[line] = with_part(&lines[line], is_of_number, NUMBERS.choose(random).expect("there are some"), random)
        }
        6 => {
            let parts = parts(&lines[other], char::is_alphanumeric);
            let part = parts.choose(random).map(|part| lines[other][part.clone()].to_string()).unwrap_or_default();
            lines[line] = with_part(&lines[line], char::is_alphanumeric, &part, random);
        }
        7 => {
            let word = WORDS.choose(random).expect("there are some").repeat(1 << random.random_range(0..12));
            let places: Vec<usize> = lines[line].char_indices().map(|(place, _)| place).collect();
            lines[line].insert_str(places.choose(random).copied().unwrap_or(0), &word);
        }
        8 => {
            let places: Vec<usize> = lines[line].char_indices().map(|(place, _)| place).collect();
            lines[line].truncate(places.choose(random).copied().unwrap_or(0));
        }
        9 => {
            let of = |sign: &str| lines[line].find(sign).map(|at| at + sign.len());
            if let Some(at) = of(" = ").or_else(|| of(": ")) {
                let end = lines[line].trim_end().trim_end_matches(',').len().max(at);
                lines[line].replace_range(at..end, VALUES.choose(random).expect("there are some"));
            }
        }
        _ => {
            let letter = char::from(random.random_range(0..128u8)).to_string();
            let letters: Vec<(usize, char)> = lines[line].char_indices().collect();
            if let Some((place, old)) = letters.choose(random) {
                lines[line].replace_range(*place..place + old.len_utf8(), &letter);
            }
        }
    }
    lines.concat()
}

fn is_of_number(c: char) -> bool {
    c.is_ascii_digit() || ".-+".contains(c)
}

/// Where in `line` such letters stand together.
fn parts(line: &str, belongs: fn(char) -> bool) -> Vec<std::ops::Range<usize>> {
    let mut parts: Vec<std::ops::Range<usize>> = Vec::new();
    for (at, c) in line.char_indices().filter(|&(_, c)| belongs(c)) {
        match parts.last_mut() {
            Some(part) if part.end == at => part.end += c.len_utf8(),
            _ => parts.push(at..at + c.len_utf8()),
        }
    }
    parts
}

fn with_part(line: &str, belongs: fn(char) -> bool, instead: &str, random: &mut ChaCha8Rng) -> String {
    let mut line = line.to_string();
    if let Some(part) = parts(&line, belongs).choose(random) {
        line.replace_range(part.clone(), instead);
    }
    line
}
