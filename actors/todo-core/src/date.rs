//! A calendar day, as clients write it: `YYYY-MM-DD`, and nothing else.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

/// A day that exists in the (proleptic) Gregorian calendar, of the years 0000 to 9999.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Date {
    year: u16,
    month: u8,
    day: u8,
}

/// The text is no calendar day in `YYYY-MM-DD`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoSuchDay;

impl FromStr for Date {
    type Err = NoSuchDay;

    fn from_str(text: &str) -> Result<Self, NoSuchDay> {
        let &[y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1] = text.as_bytes() else {
            return Err(NoSuchDay);
        };
        let number = |digits: &[u8]| {
            digits.iter().try_fold(0u16, |sum, digit| match digit {
                b'0'..=b'9' => Ok(sum * 10 + u16::from(digit - b'0')),
                _ => Err(NoSuchDay),
            })
        };
        let year = number(&[y0, y1, y2, y3])?;
        let month = number(&[m0, m1])? as u8;
        let day = number(&[d0, d1])? as u8;
        if day == 0 || day > days_in(year, month) {
            return Err(NoSuchDay);
        }
        Ok(Self { year, month, day })
    }
}

/// 0 for a month that does not exist.
fn days_in(year: u16, month: u8) -> u8 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + u8::from(leap),
        _ => 0,
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_days_are_read_and_written_alike() {
        for text in [
            "2018-12-19",
            "0000-01-01",
            "2024-02-29",
            "2000-02-29",
            "9999-12-31",
        ] {
            assert_eq!(text.parse::<Date>().map(|d| d.to_string()), Ok(text.into()));
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "",
            "2018-13-01",
            "2018-00-10",
            "2018-12-00",
            "2018-12-32",
            "2018-02-29",
            "1900-02-29",
            "2018-04-31",
            "2018-1-1",
            "20181219",
            "2018/12/19",
            " 2018-12-19",
            "2018-12-19 ",
            "2018-12-1a",
            "+018-12-19",
            "-018-12-19",
            "02018-12-19",
            "２018-12-9",
            "2018-12-19T",
        ] {
            assert_eq!(text.parse::<Date>(), Err(NoSuchDay), "{text:?}");
        }
    }

    #[test]
    fn days_sort_by_time() {
        let day = |t: &str| t.parse::<Date>().ok();
        assert!(day("2018-12-19") < day("2018-12-20"));
        assert!(day("2018-12-31") < day("2019-01-01"));
    }
}
