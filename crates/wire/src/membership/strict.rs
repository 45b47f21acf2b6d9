//! One message, one reading: protobuf lets fields come twice and in any order, and readers differ in
//! what they make of that. Signed operations may not, since all devices must read the same in them.

use crate::WireError;

/// Checks that a message's fields are in ascending order and none comes twice, and returns the number
/// of each field with its contents where it is length-delimited.
pub(super) fn fields(mut rest: &[u8]) -> Result<Vec<(u32, &[u8])>, WireError> {
    let malformed = || WireError::Malformed("a field is cut short".into());
    let mut fields: Vec<(u32, &[u8])> = Vec::new();
    while !rest.is_empty() {
        let key = varint(&mut rest).ok_or_else(malformed)?;
        let number = u32::try_from(key >> 3).map_err(|_| malformed())?;
        if number == 0 || fields.last().is_some_and(|(last, _)| *last >= number) {
            return Err(WireError::field("fields", "out of order, or one comes twice"));
        }
        let len = match key & 7 {
            0 => {
                varint(&mut rest).ok_or_else(malformed)?;
                0
            }
            1 => 8,
            2 => varint(&mut rest).ok_or_else(malformed)?,
            5 => 4,
            _ => return Err(WireError::field("fields", "of a kind that is not used")),
        };
        let len = usize::try_from(len).map_err(|_| malformed())?;
        let (contents, after) = rest.split_at_checked(len).ok_or_else(malformed)?;
        fields.push((number, if key & 7 == 2 { contents } else { &[] }));
        rest = after;
    }
    Ok(fields)
}

/// A varint in its shortest form.
fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, after) = rest.split_first()?;
        *rest = after;
        if shift == 63 && byte > 1 || shift > 0 && byte == 0 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
