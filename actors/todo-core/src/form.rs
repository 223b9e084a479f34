//! Reads a query string (`application/x-www-form-urlencoded`), strictly: what is broken is an
//! error, never a guess. It does not know which parameters mean what.

use core::fmt;

/// The pairs of a query string, decoded, in their order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Form(Vec<(String, String)>);

/// What is wrong with a query string. The client's fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FormError {
    /// A `%` that two hexadecimal digits do not follow.
    Percent,
    /// The decoded bytes are not UTF-8.
    Utf8,
}

impl fmt::Display for FormError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Percent => {
                "the query has a % that two hexadecimal digits do not follow: write %25 for a % itself"
            }
            Self::Utf8 => "the query is not UTF-8 once percent-decoded",
        })
    }
}

/// What is wrong with one parameter. The client's fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ParameterError {
    /// It is not there.
    Missing,
    /// It is there more than once.
    Repeated,
    /// It has no text.
    Empty,
}

impl Form {
    /// Reads what follows the `?`.
    pub fn parse(query: &str) -> Result<Self, FormError> {
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(name)?, decode(value)?))
        });
        pairs.collect::<Result<_, _>>().map(Self)
    }

    /// The value of a parameter that must be there once and must not be empty.
    pub fn take(&mut self, name: &str) -> Result<String, ParameterError> {
        let mut found = self.0.iter_mut().filter(|(n, _)| n == name);
        let value = &mut found.next().ok_or(ParameterError::Missing)?.1;
        if found.next().is_some() {
            return Err(ParameterError::Repeated);
        }
        if value.is_empty() {
            return Err(ParameterError::Empty);
        }
        Ok(core::mem::take(value))
    }
}

fn decode(text: &str) -> Result<String, FormError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        bytes.push(match first {
            b'+' => b' ',
            b'%' => {
                let [high, low, tail @ ..] = tail else {
                    return Err(FormError::Percent);
                };
                rest = tail;
                nibble(*high)? << 4 | nibble(*low)?
            }
            plain => *plain,
        });
    }
    String::from_utf8(bytes).map_err(|_| FormError::Utf8)
}

fn nibble(digit: u8) -> Result<u8, FormError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(FormError::Percent),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(query: &str, name: &str) -> Result<String, ParameterError> {
        Form::parse(query).expect(query).take(name)
    }

    #[test]
    fn values_are_decoded() {
        assert_eq!(
            value("title=Caf%C3%A9+%26+Tea", "title"),
            Ok("Café & Tea".into())
        );
        assert_eq!(value("a=1&title=x=y%2B&b", "title"), Ok("x=y+".into()));
        assert_eq!(value("t%69tle=%41%e2%82%AC", "title"), Ok("A€".into()));
        assert_eq!(value("&&title=é&", "title"), Ok("é".into()));
    }

    #[test]
    fn broken_encoding_is_refused_wherever_it_is() {
        for query in [
            "title=%",
            "title=%4",
            "title=%zz",
            "x=%+1&title=a",
            "%=1",
            "a=%é",
        ] {
            assert_eq!(Form::parse(query), Err(FormError::Percent), "{query:?}");
        }
        for query in [
            "title=%ff",
            "title=%C3",
            "%80=a",
            "title=%ed%a0%80",
            "title=%c0%af",
        ] {
            assert_eq!(Form::parse(query), Err(FormError::Utf8), "{query:?}");
        }
    }

    #[test]
    fn a_parameter_is_there_once_with_text() {
        assert_eq!(value("", "list"), Err(ParameterError::Missing));
        assert_eq!(value("List=a", "list"), Err(ParameterError::Missing));
        assert_eq!(value("list", "list"), Err(ParameterError::Empty));
        assert_eq!(value("list=", "list"), Err(ParameterError::Empty));
        assert_eq!(
            value("list=a&list=a", "list"),
            Err(ParameterError::Repeated)
        );
        assert_eq!(
            value("list=&l%69st=a", "list"),
            Err(ParameterError::Repeated)
        );
    }
}
