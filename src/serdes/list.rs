//! Lists, in the bytes of Kafka's `ListSerde` (KIP-466), which Java reads whatever the element's serde.

use bytes::{Buf, Bytes};

use super::{DefaultSerde, Deserializer, Encoded, Serde, Serializer, null_not_allowed};
use crate::error::{Error, Result};
use crate::record::Headers;

/// All elements have the same size; null ones are listed by their indices.
const CONSTANT_SIZE: u8 = 0;
/// Each element follows its size; -1 is a null one.
const VARIABLE_SIZE: u8 = 1;
const NULL_ENTRY: i32 = -1;

struct List<T>(Serde<T>);

/// The serde of lists whose elements `element` writes. Source: `Serdes.ListSerde`.
///
/// | offset | bytes | what |
/// |---|---|---|
/// | 0 | 1 | strategy: 1, variable size |
/// | 1 | 4 | number of elements, big-endian |
/// | 5 | 4, n | an element: its size (-1: null), its bytes |
///
/// `01 00000001 00000002 6162` is the list of the text `ab`. Java writes fixed-size elements without their sizes (strategy 0); both forms are read.
pub fn list_serde<T: 'static>(element: Serde<T>) -> Serde<Vec<T>> {
    Serde::from_both(List(element))
}

impl<T: DefaultSerde> DefaultSerde for Vec<T> {
    fn serde() -> Serde<Self> {
        list_serde(T::serde())
    }
}

impl<T> Serializer<Vec<T>> for List<T> {
    fn serialize(&self, topic: &str, list: &Vec<T>, out: &mut Vec<u8>) -> Result<Encoded> {
        out.push(VARIABLE_SIZE);
        out.extend_from_slice(&size(list.len())?.to_be_bytes());
        for element in list {
            let start = out.len();
            out.extend_from_slice(&NULL_ENTRY.to_be_bytes());
            let written = out.len();
            if self.0.serializer().serialize(topic, element, out)? == Encoded::Bytes {
                let size = size(out.len() - written)?;
                out[start..written].copy_from_slice(&size.to_be_bytes());
            }
        }
        Ok(Encoded::Bytes)
    }
}

impl<T> Deserializer<Vec<T>> for List<T> {
    fn deserialize(&self, topic: &str, headers: &Headers, data: Option<&Bytes>) -> Result<Vec<T>> {
        let mut rest = data.cloned().ok_or_else(|| null_not_allowed("a list"))?;
        let elements = match rest.try_get_u8().map_err(|_| ends_early())? {
            VARIABLE_SIZE => variable(&mut rest)?,
            CONSTANT_SIZE => constant(&mut rest)?,
            other => {
                return Err(Error::bad_record(format!(
                    "found strategy {other} of a list, wanted 0 (constant size) or 1 (variable size)"
                )));
            }
        };
        let read = |element: Option<Bytes>| {
            self.0.deserializer().deserialize(topic, headers, element.as_ref())
        };
        elements.into_iter().map(read).collect()
    }
}

fn variable(rest: &mut Bytes) -> Result<Vec<Option<Bytes>>> {
    let count = count(rest)?;
    let mut elements = Vec::with_capacity(count);
    for _ in 0..count {
        let size = rest.try_get_i32().map_err(|_| ends_early())?;
        elements.push(match size {
            NULL_ENTRY => None,
            size => Some(take(rest, usize::try_from(size).map_err(|_| ends_early())?)?),
        });
    }
    Ok(elements)
}

fn constant(rest: &mut Bytes) -> Result<Vec<Option<Bytes>>> {
    let nulls: Vec<usize> = (0..count(rest)?)
        .map(|_| rest.try_get_u32().map(|index| index as usize).map_err(|_| ends_early()))
        .collect::<Result<_>>()?;
    let count = count(rest)?;
    let present = (0..count).filter(|index| !nulls.contains(index)).count();
    let size = rest.len().checked_div(present).unwrap_or_default();
    let element =
        |index| if nulls.contains(&index) { Ok(None) } else { take(rest, size).map(Some) };
    (0..count).map(element).collect()
}

/// A number of elements, which no list has more of than bytes.
fn count(rest: &mut Bytes) -> Result<usize> {
    let count = rest.try_get_i32().map_err(|_| ends_early())?;
    let held = rest.len();
    usize::try_from(count).ok().filter(|count| *count <= held).ok_or_else(|| {
        Error::bad_record(format!("found {count} elements of a list in {held} bytes"))
    })
}

fn take(rest: &mut Bytes, size: usize) -> Result<Bytes> {
    if size > rest.len() {
        return Err(ends_early());
    }
    Ok(rest.split_to(size))
}

fn ends_early() -> Error {
    Error::bad_record("found a list that ends within an element, wanted the whole list")
}

fn size(length: usize) -> Result<i32> {
    i32::try_from(length).map_err(|_| {
        Error::bad_record(format!(
            "found a list of {length} elements or bytes, wanted {} at most",
            i32::MAX
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of<T: DefaultSerde>(list: Vec<T>) -> Vec<u8> {
        let mut out = Vec::new();
        let encoded = Vec::<T>::serde().serializer().serialize("t", &list, &mut out).unwrap();
        assert_eq!(encoded, Encoded::Bytes);
        out
    }

    fn read<T: DefaultSerde>(bytes: &[u8]) -> Result<Vec<T>> {
        let data = Bytes::copy_from_slice(bytes);
        Vec::<T>::serde().deserializer().deserialize("t", &Headers::default(), Some(&data))
    }

    #[test]
    fn a_list_has_kafkas_bytes() {
        assert_eq!(bytes_of(vec!["ab".to_owned()]), b"\x01\0\0\0\x01\0\0\0\x02ab");
        let list = vec![Some(7i32), None];
        assert_eq!(bytes_of(list.clone()), b"\x01\0\0\0\x02\0\0\0\x04\0\0\0\x07\xff\xff\xff\xff");
        assert_eq!(read::<Option<i32>>(&bytes_of(list.clone())).unwrap(), list);
        assert_eq!(read::<String>(&bytes_of(Vec::<String>::new())).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn javas_lists_of_fixed_size_elements_are_read() {
        let bytes = b"\0\0\0\0\x01\0\0\0\x01\0\0\0\x03\0\0\0\x07\0\0\0\x08";
        assert_eq!(read::<Option<i32>>(bytes).unwrap(), [Some(7), None, Some(8)]);
        assert_eq!(read::<i32>(b"\0\0\0\0\0\0\0\0\0").unwrap(), Vec::<i32>::new());
    }

    #[test]
    fn broken_lists_are_refused() {
        for bytes in [
            &b""[..],
            b"\x02\0\0\0\0",
            b"\x01\0\0\0\x01",
            b"\x01\xff\xff\xff\xff",
            b"\x01\0\0\0\x01\0\0\0\x09ab",
            b"\x01\0\0\0\x01\xff\xff\xff\xfe",
            b"\x01\x7f\xff\xff\xff\0\0\0\x02ab",
        ] {
            assert!(read::<String>(bytes).is_err(), "{bytes:?}");
        }
        assert!(read::<String>(b"\x01\0\0\0\x01\xff\xff\xff\xff").is_err(), "null is no text");
    }
}
