//! Counts what a message holds before anything is made of it (attacks.md 27).
//!
//! A protobuf decoder makes a value of some hundred bytes out of each two bytes of an empty submessage. So
//! what repeats is counted first, on the bytes as they came.

use crate::WireError;

/// How often a field may be there.
pub(crate) struct Limit {
    /// Numbers of the fields that lead to it, from the outermost.
    pub(crate) field: &'static [u32],
    /// How often it may be there, counted over the whole of the message.
    pub(crate) most: usize,
    /// What it is called in docs/protocol.md.
    pub(crate) name: &'static str,
}

const VARINT: u64 = 0;
const EIGHT_BYTES: u64 = 1;
const LENGTH: u64 = 2;
const FOUR_BYTES: u64 = 5;

/// Deepest field that is counted.
const DEEPEST: usize = 3;

/// Checks a message against limits; the decoder finds whatever else is wrong with it.
///
/// # Errors
/// Names what there is too much of, or says that the bytes are no message.
pub(crate) fn check<const N: usize>(message: &[u8], limits: &[Limit; N]) -> Result<(), WireError> {
    let mut counts = [0; N];
    count(message, &mut Vec::with_capacity(DEEPEST), limits, &mut counts)
}

fn count(
    mut bytes: &[u8],
    within: &mut Vec<u32>,
    limits: &[Limit],
    counts: &mut [usize],
) -> Result<(), WireError> {
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let field = u32::try_from(key >> 3).map_err(|_| malformed())?;
        let inner = match key & 7 {
            VARINT => varint(&mut bytes).map(|_| &[][..])?,
            EIGHT_BYTES => take(&mut bytes, 8).map(|_| &[][..])?,
            FOUR_BYTES => take(&mut bytes, 4).map(|_| &[][..])?,
            LENGTH => {
                let len = usize::try_from(varint(&mut bytes)?).map_err(|_| malformed())?;
                take(&mut bytes, len)?
            }
            // Groups, which nothing of ours has, and what does not exist.
            _ => return Err(malformed()),
        };
        within.push(field);
        for (limit, count) in limits.iter().zip(&mut *counts) {
            // The last number first: it tells most of them apart.
            if limit.field.last() == Some(&field) && limit.field == &within[..] {
                *count += 1;
                if *count > limit.most {
                    return Err(WireError::field(limit.name, "too many"));
                }
            }
        }
        let leads = |it: &Limit| {
            it.field.get(within.len() - 1) == Some(&field)
                && it.field.len() > within.len()
                && it.field.starts_with(within)
        };
        if limits.iter().any(leads) {
            count(inner, within, limits, counts)?;
        }
        within.pop();
    }
    Ok(())
}

fn varint(bytes: &mut &[u8]) -> Result<u64, WireError> {
    let mut value = 0;
    for shift in (0..70).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or_else(malformed)?;
        *bytes = rest;
        if shift < 64 {
            value |= u64::from(byte & 0x7f) << shift;
        }
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(malformed())
}

fn take<'a>(bytes: &mut &'a [u8], len: usize) -> Result<&'a [u8], WireError> {
    let (taken, rest) = bytes.split_at_checked(len).ok_or_else(malformed)?;
    *bytes = rest;
    Ok(taken)
}

fn malformed() -> WireError {
    WireError::Malformed("the bytes are no message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: [Limit; 2] = [
        Limit { field: &[2, 1], most: 2, name: "few" },
        Limit { field: &[2, 1, 3], most: 3, name: "deep" },
    ];

    fn field(number: u8, contents: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, u8::try_from(contents.len()).expect("short")], contents].concat()
    }

    #[test]
    fn attack_27_what_repeats_is_counted_wherever_it_is() {
        let one = field(2, &field(1, &[]));
        assert_eq!(check(&one.repeat(2), &LIMITS), Ok(()));
        let too_many = Err(WireError::field("few", "too many"));
        assert_eq!(check(&one.repeat(3), &LIMITS), too_many, "over several fields");
        assert_eq!(check(&field(2, &field(1, &[]).repeat(3)), &LIMITS), too_many, "in one");
        let deep = field(2, &field(1, &field(3, b"x").repeat(4)));
        assert_eq!(check(&deep, &LIMITS), Err(WireError::field("deep", "too many")));
        assert_eq!(check(&field(9, &one.repeat(9)), &LIMITS), Ok(()), "of another field");
    }

    #[test]
    fn attack_27_lengths_that_lie_are_refused() {
        let huge = [0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        let minus_one = [0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
        let endless = [0xff; 11];
        for bytes in [&[0x12, 5, 1][..], &huge, &minus_one, &endless, &[0x13], &[0x09, 1], &[0x80]]
        {
            assert!(check(bytes, &LIMITS).is_err(), "{bytes:?}");
        }
        // A number, eight bytes, four bytes, nothing.
        let sound = [&[0x08, 1, 0x11][..], &[0; 8], &[0x1d], &[0; 4]].concat();
        assert_eq!(check(&sound, &LIMITS), Ok(()));
        assert_eq!(check(&[], &LIMITS), Ok(()));
    }
}
