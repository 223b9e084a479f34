//! What commands print on standard output. A reader that has gone away is no failure.

use std::io::Write;

/// One line.
pub(super) fn line(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// One line of JSON.
pub(super) fn json(value: &serde_json::Value) {
    line(value);
}

/// Columns under their headings, as wide as they need to be. Nothing for no rows but the
/// headings, so that a script's `tail -n +2` is right either way.
pub(super) fn table<const N: usize>(headings: [&str; N], rows: &[[String; N]]) {
    let mut widths = headings.map(str::len);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    line(aligned(&headings.map(String::from), &widths));
    for row in rows {
        line(aligned(row, &widths));
    }
}

fn aligned<const N: usize>(cells: &[String; N], widths: &[usize; N]) -> String {
    let padded: Vec<_> = cells
        .iter()
        .zip(widths)
        .map(|(cell, &width)| format!("{cell:width$}"))
        .collect();
    padded.join("  ").trim_end().to_string()
}

/// Bytes for a person: as text if they are any, else in hex.
pub(super) fn readable(bytes: &[u8]) -> Result<&str, String> {
    let printable = |text: &&str| !text.contains(|c: char| c.is_control() && !"\n\r\t".contains(c));
    match std::str::from_utf8(bytes).ok().filter(printable) {
        Some(text) => Ok(text),
        None => Err(bytes.iter().map(|byte| format!("{byte:02x}")).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_end_with_text() {
        let cells = ["a".to_string(), "b".to_string()];
        assert_eq!(aligned(&cells, &[3, 5]), "a    b");
    }

    #[test]
    fn bytes_are_text_or_hex() {
        assert_eq!(readable(b"caf\xc3\xa9\n"), Ok("caf\u{e9}\n"));
        assert_eq!(readable(b"\x00\xff"), Err("00ff".into()));
        assert_eq!(readable(b"\x1b[2J"), Err("1b5b324a".into()));
        assert_eq!(readable(b""), Ok(""));
    }
}
