//! Extended headers: POSIX.1-2001 (pax).
//!
//! A record is `LENGTH KEY=VALUE\n`, its length in decimal digits counting itself.

use super::EXTENDED_BYTES_MAX;
use super::header::{Wrong, size_of};
use lifeboat_format::Timestamp;
use lifeboat_format::limits::{NAME_BYTES_MAX, XATTR_VALUE_BYTES_MAX, XATTRS_MAX};

/// All attribute names of one file, each with its end: what Linux lists. More could not be given to any file, and would make
/// an entry that no node can hold.
const XATTR_NAMES_BYTES_MAX: usize = 64 << 10;

/// What extended headers say about the members that follow them.
#[derive(Debug, Clone, Default)]
pub(super) struct Extended {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link_path: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) mtime: Option<Timestamp>,
    pub(super) xattrs: Xattrs,
    pub(super) sparse: Sparse,
}

/// Extended attributes, sorted by name. Several headers add to them, so it is here that they are bounded.
#[derive(Debug, Clone, Default)]
pub(super) struct Xattrs {
    pub(super) all: Vec<(Vec<u8>, Vec<u8>)>,
    name_bytes: usize,
    value_bytes: usize,
}

/// What they say about holes, in any of GNU's three ways.
#[derive(Debug, Clone, Default)]
pub(super) struct Sparse {
    pub(super) name: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    /// Version 1.0: the map stands before the data.
    pub(super) major: Option<u64>,
    pub(super) minor: Option<u64>,
    /// Versions 0.0 and 0.1: offsets and lengths in turn.
    pub(super) map: Vec<u64>,
}

impl Sparse {
    pub(super) fn is_any(&self) -> bool {
        self.size.is_some() || self.major.is_some() || !self.map.is_empty()
    }
}

/// Takes the records of `bytes` in; later ones count.
pub(super) fn read_into(extended: &mut Extended, bytes: &[u8], stretches_max: usize) -> Result<(), Wrong> {
    let mut rest = bytes;
    while !rest.is_empty() {
        // A block of zeros behind the last record is not allowed, but some programs count it in.
        if rest.iter().all(|byte| *byte == 0) {
            break;
        }
        let space = rest.iter().position(|byte| *byte == b' ').ok_or("a record has no length")?;
        let length = usize::try_from(decimal(&rest[..space])?).map_err(|_| "a record is too long")?;
        let record = rest.get(space + 1..length).ok_or("a record does not end where it says")?;
        let record = record.strip_suffix(b"\n").ok_or("a record does not end where it says")?;
        let equals = record.iter().position(|byte| *byte == b'=').ok_or("a record has no value")?;
        take(extended, &record[..equals], &record[equals + 1..], stretches_max)?;
        rest = &rest[length..];
    }
    Ok(())
}

fn take(extended: &mut Extended, key: &[u8], value: &[u8], stretches_max: usize) -> Result<(), Wrong> {
    // An empty value takes back what was said before.
    let set = |value: &[u8]| (!value.is_empty()).then(|| value.to_vec());
    let sparse = &mut extended.sparse;
    match key {
        b"path" => extended.path = set(value),
        b"linkpath" => extended.link_path = set(value),
        b"size" if value.is_empty() => extended.size = None,
        b"size" => extended.size = Some(size_of(i128::from(decimal(value)?))?),
        b"uid" | b"gid" => {
            let wrong = "its owner is no number of 32 bits";
            let id = match value.is_empty() {
                true => None,
                false => Some(u32::try_from(decimal(value)?).map_err(|_| wrong)?),
            };
            *(if key == b"uid" { &mut extended.uid } else { &mut extended.gid }) = id;
        }
        b"mtime" => extended.mtime = if value.is_empty() { None } else { Some(time(value)?) },
        b"GNU.sparse.name" => sparse.name = set(value),
        b"GNU.sparse.size" | b"GNU.sparse.realsize" => sparse.size = Some(decimal(value)?),
        b"GNU.sparse.major" => sparse.major = Some(decimal(value)?),
        b"GNU.sparse.minor" => sparse.minor = Some(decimal(value)?),
        // Says how many pairs follow; we count them ourselves.
        b"GNU.sparse.numblocks" => sparse.map.clear(),
        b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
            let is_offset = key == b"GNU.sparse.offset";
            if sparse.map.len().is_multiple_of(2) != is_offset || sparse.map.len() >= 2 * stretches_max {
                return Err("its map of holes is none");
            }
            sparse.map.push(decimal(value)?);
        }
        b"GNU.sparse.map" => {
            let numbers = value.split(|byte| *byte == b',').filter(|number| !number.is_empty());
            sparse.map = numbers.take(2 * stretches_max + 1).map(decimal).collect::<Result<_, _>>()?;
        }
        _ => {
            if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                extended.xattrs.take(decoded(name), value)?;
            }
            // Other keys (comments, names of owners, access times) have nothing that an entry could hold.
        }
    }
    Ok(())
}

/// GNU tar's way around keys that end at the first `=`.
fn decoded(name: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::new();
    let mut rest = name;
    while let Some((first, behind)) = rest.split_first() {
        let (byte, taken) = match rest.get(..3) {
            Some(b"%3D") => (b'=', 3),
            Some(b"%25") => (b'%', 3),
            _ => (*first, 1),
        };
        decoded.push(byte);
        rest = if taken == 3 { &rest[3..] } else { behind };
    }
    decoded
}

impl Xattrs {
    fn take(&mut self, name: Vec<u8>, value: &[u8]) -> Result<(), Wrong> {
        let fits = !name.is_empty()
            && name.len() <= NAME_BYTES_MAX
            && !name.contains(&0)
            && value.len() <= XATTR_VALUE_BYTES_MAX as usize;
        if !fits {
            return Err("an extended attribute's name or value is too long");
        }
        self.value_bytes += value.len();
        match self.all.binary_search_by(|(other, _)| other.cmp(&name)) {
            Ok(place) => {
                let before = std::mem::replace(&mut self.all[place].1, value.to_vec());
                self.value_bytes -= before.len();
            }
            Err(place) => {
                self.name_bytes += name.len() + 1;
                self.all.insert(place, (name, value.to_vec()));
            }
        }
        let is_bounded = self.all.len() <= XATTRS_MAX as usize
            && self.name_bytes <= XATTR_NAMES_BYTES_MAX
            && self.value_bytes as u64 <= EXTENDED_BYTES_MAX;
        if is_bounded { Ok(()) } else { Err("it has too many extended attributes") }
    }
}

/// Digits only.
pub(super) fn decimal(text: &[u8]) -> Result<u64, Wrong> {
    let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(text).ok().filter(|_| is_number).and_then(|text| text.parse().ok());
    number.ok_or("a number in an extended header is none")
}

/// Seconds with a fraction; before 1970 both count backwards.
fn time(text: &[u8]) -> Result<Timestamp, Wrong> {
    let wrong = "a time in an extended header is none";
    let (is_negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let point = text.iter().position(|byte| *byte == b'.').unwrap_or(text.len());
    let fraction = text.get(point + 1..).unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err(wrong);
    }
    let seconds = i64::try_from(decimal(&text[..point])?).map_err(|_| wrong)?;
    let digits = fraction.iter().copied().chain(std::iter::repeat(b'0')).take(9);
    let nanos = digits.fold(0, |nanos, digit| nanos * 10 + u32::from(digit - b'0'));
    Ok(match (is_negative, nanos) {
        (false, _) => Timestamp { seconds, nanos },
        (true, 0) => Timestamp { seconds: -seconds, nanos: 0 },
        (true, _) => Timestamp { seconds: -seconds - 1, nanos: 1_000_000_000 - nanos },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_nanoseconds_and_count_backwards_before_1970() {
        let is =
            |text: &str, seconds, nanos| assert_eq!(time(text.as_bytes()), Ok(Timestamp { seconds, nanos }));
        is("0", 0, 0);
        is("1700000000.123456789", 1_700_000_000, 123_456_789);
        is("1.5", 1, 500_000_000);
        is("1.9999999999999", 1, 999_999_999);
        is("-0.5", -1, 500_000_000);
        is("-2", -2, 0);
        for bad in ["", "-", ".", "1.x", "x", "99999999999999999999", "1e3"] {
            assert!(time(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn attributes_are_bounded_however_many_headers_name_them() {
        let mut many = Xattrs::default();
        let taken = (0..).take_while(|number| many.take(format!("user.{number:08}").into(), b"").is_ok());
        assert_eq!(taken.count(), XATTR_NAMES_BYTES_MAX / 14);
        let mut long = Xattrs::default();
        let value = vec![0; XATTR_VALUE_BYTES_MAX as usize];
        let taken = (0..).take_while(|number| long.take(format!("user.{number}").into(), &value).is_ok());
        assert_eq!(taken.count() as u64, EXTENDED_BYTES_MAX / u64::from(XATTR_VALUE_BYTES_MAX));
        // Of one that is said again the last counts, and no other.
        let mut again = Xattrs::default();
        assert!((0..1000).all(|_| again.take(b"user.a".to_vec(), &value).is_ok()));
        again.take(b"user.a".to_vec(), b"last").unwrap();
        assert_eq!((again.all.len(), again.name_bytes, again.value_bytes), (1, 7, 4));
    }

    #[test]
    fn records_end_where_they_say() {
        let read = |text: &[u8]| {
            let mut extended = Extended::default();
            read_into(&mut extended, text, 4).map(|()| extended)
        };
        assert_eq!(read(b"10 path=a\n").unwrap().path, Some(b"a".to_vec()));
        assert_eq!(read(b"12 path=a=b\n").unwrap().path, Some(b"a=b".to_vec()));
        assert_eq!(read(b"10 path=a\n8 path=\n").unwrap().path, None);
        assert_eq!(read(b"14 path=a\n\nb=\n").unwrap().path, Some(b"a\n\nb=".to_vec()));
        for bad in [
            &b"11 path=a\n"[..],
            b"8 path=a\n",
            b"path=a\n",
            b"8 pathab\n",
            b"0 \n",
            b"99999999999999999999 a=b\n",
            b"3 a",
        ] {
            assert!(read(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }
}
