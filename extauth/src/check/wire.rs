//! A `CheckRequest` read in its encoded form: what policies look at is borrowed from the message, all else is passed over.

use prost::encoding::decode_varint;

use super::{Error, Http, POLICY, Source};

/// What a message says, as far as a policy may ask for it.
#[derive(Debug, Default)]
pub(super) struct Question<'a> {
    pub(super) policy: Option<&'a str>,
    pub(super) source: Source<'a>,
    /// Whether there is a request at all.
    pub(super) asked: bool,
    pub(super) http: Http<'a>,
    pub(super) headers: Vec<(&'a str, &'a str)>,
    /// The other form of the headers, which holds where it is there.
    pub(super) raw_headers: Vec<(&'a str, &'a str)>,
}

/// One field's value.
#[derive(Clone, Copy)]
enum Value<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    Fixed,
}

/// The fields of one message, in the order in which they stand.
struct Fields<'a>(&'a [u8]);

impl<'a> Question<'a> {
    /// Reads an `envoy.service.auth.v3.CheckRequest`. As in all of protobuf, the last of equal fields counts, and parts of
    /// one message may stand apart.
    pub(super) fn read(message: &'a [u8]) -> Result<Self, Error> {
        let mut question = Self { headers: Vec::with_capacity(24), ..Self::default() };
        each(message, |field, value| match field {
            1 => each(value.bytes()?, |field, value| question.attribute(field, value)),
            _ => Ok(()),
        })?;
        Ok(question)
    }

    /// A field of `AttributeContext`.
    fn attribute(&mut self, field: u32, value: Value<'a>) -> Result<(), Error> {
        match field {
            1 => each(value.bytes()?, |field, value| self.source(field, value)),
            4 => each(value.bytes()?, |field, value| match field {
                2 => {
                    self.asked = true;
                    each(value.bytes()?, |field, value| self.http(field, value))
                }
                _ => Ok(()),
            }),
            10 => {
                let (name, value) = pair(value.bytes()?)?;
                if name == POLICY {
                    self.policy = Some(value);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A field of `AttributeContext.Peer`.
    fn source(&mut self, field: u32, value: Value<'a>) -> Result<(), Error> {
        match field {
            1 => each(value.bytes()?, |field, value| match field {
                1 => {
                    let address = self.source.address.get_or_insert_default();
                    each(value.bytes()?, |field, value| match field {
                        2 => value.text().map(|text| *address = text),
                        _ => Ok(()),
                    })
                }
                // A pipe, or a listener within Envoy.
                2 | 3 => {
                    self.source.address = None;
                    Ok(())
                }
                _ => Ok(()),
            }),
            4 => value.text().map(|text| self.source.principal = text),
            5 => value.text().map(|text| self.source.certificate = text),
            _ => Ok(()),
        }
    }

    /// A field of `AttributeContext.HttpRequest`.
    fn http(&mut self, field: u32, value: Value<'a>) -> Result<(), Error> {
        let http = &mut self.http;
        match field {
            1 => http.id = value.text()?,
            2 => http.method = value.text()?,
            3 => self.headers.push(pair(value.bytes()?)?),
            4 => http.path = value.text()?,
            5 => http.host = value.text()?,
            6 => http.scheme = value.text()?,
            9 => http.size = value.varint()?.cast_signed(),
            11 => http.body = value.text()?,
            12 => http.raw_body = value.bytes()?,
            13 => each(value.bytes()?, |field, value| match field {
                1 => raw_header(value.bytes()?).map(|header| self.raw_headers.push(header)),
                _ => Ok(()),
            })?,
            _ => {}
        }
        Ok(())
    }
}

/// An entry of a map from text to text.
fn pair(entry: &[u8]) -> Result<(&str, &str), Error> {
    let (mut name, mut text) = ("", "");
    each(entry, |field, value| {
        match field {
            1 => name = value.text()?,
            2 => text = value.text()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok((name, text))
}

/// A `HeaderValue`: of the two forms of its value, the raw one counts unless it is empty.
fn raw_header(header: &[u8]) -> Result<(&str, &str), Error> {
    let (mut name, mut text, mut raw) = ("", "", [].as_slice());
    each(header, |field, value| {
        match field {
            1 => name = value.text()?,
            2 => text = value.text()?,
            3 => raw = value.bytes()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok((name, super::header_value(text, raw)?))
}

fn each<'a>(message: &'a [u8], mut see: impl FnMut(u32, Value<'a>) -> Result<(), Error>) -> Result<(), Error> {
    let mut fields = Fields(message);
    while let Some((field, value)) = fields.next()? {
        see(field, value)?;
    }
    Ok(())
}

impl<'a> Fields<'a> {
    fn next(&mut self) -> Result<Option<(u32, Value<'a>)>, Error> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let field = u32::try_from(key >> 3).ok().filter(|field| *field > 0).ok_or(Error::Malformed)?;
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Error::Malformed)?;
                Value::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            // Groups, which no version of the message has.
            _ => return Err(Error::Malformed),
        };
        Ok(Some((field, value)))
    }

    fn varint(&mut self) -> Result<u64, Error> {
        // Nearly all are lengths and keys of one byte.
        match self.0 {
            [byte, rest @ ..] if *byte < 0x80 => {
                self.0 = rest;
                Ok(u64::from(*byte))
            }
            _ => decode_varint(&mut self.0).map_err(|_| Error::Malformed),
        }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Error::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }
}

impl<'a> Value<'a> {
    fn bytes(self) -> Result<&'a [u8], Error> {
        if let Self::Bytes(bytes) = self { Ok(bytes) } else { Err(Error::Malformed) }
    }

    fn text(self) -> Result<&'a str, Error> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Error::Malformed)
    }

    fn varint(self) -> Result<u64, Error> {
        if let Self::Varint(value) = self { Ok(value) } else { Err(Error::Malformed) }
    }
}
