//! The capabilities that a manifest or a policy lists.
//!
//! Owns what such a file may say beyond a capability's own text: folders relative to the file's
//! own, and links in their paths, which whoever runs actors does not follow.

use std::path::Path;

use toml::Spanned;
use wasm_node_protocol::Capabilities;

use super::manifest::{Wrong, wrong};

/// The set that a list of texts names.
pub(super) fn checked_capabilities(
    raw: Spanned<Vec<Spanned<String>>>,
    folder: &Path,
) -> Result<Capabilities, Wrong> {
    let at = Spanned::new(raw.span(), ());
    let mut all = Vec::new();
    for text in raw.into_inner() {
        let resolved = resolved(text.as_ref(), folder).map_err(|what| wrong(&text, what))?;
        let parsed = Capabilities::parse([resolved]);
        all.extend(
            parsed
                .map_err(|error| wrong(&text, error.to_string()))?
                .iter()
                .cloned(),
        );
    }
    Capabilities::new(all).map_err(|error| wrong(&at, error.to_string()))
}

/// A capability's text with the path in it absolute and without links, as whoever runs actors
/// follows none.
fn resolved(text: &str, folder: &Path) -> Result<String, String> {
    let Some((kind @ ("files" | "files-read-only"), path)) = text.split_once(':') else {
        return Ok(text.into());
    };
    if path.is_empty() {
        return Ok(text.into());
    }
    let path = folder.join(path);
    let no_use = |why: &str| format!("{text:?}: the folder {} {why}", path.display());
    let found = path.canonicalize();
    let found = found.map_err(|error| no_use(&format!("cannot be used: {error}; create it")))?;
    if !found.is_dir() {
        return Err(no_use("is none"));
    }
    match found.to_str() {
        Some(path) => Ok(format!("{kind}:{path}")),
        None => Err(no_use("has a name that is no UTF-8")),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::app::Manifest;

    #[test]
    fn a_granted_folder_is_resolved_and_must_be_there() {
        let site = tempfile::tempdir().unwrap();
        let folder = site.path().canonicalize().unwrap();
        std::fs::create_dir(folder.join("data")).unwrap();
        std::os::unix::fs::symlink("data", folder.join("link")).unwrap();
        let parse = |capability: &str| {
            let text = format!(
                "[app]\nname = \"a\"\n[modules.w]\nfile = \"w\"\ncapabilities = [\"{capability}\"]\n"
            );
            let parsed = Manifest::parse(&text, Path::new("app.toml"), &folder);
            let parsed = parsed.map_err(|error| error.to_string());
            parsed.map(|manifest| manifest.modules["w"].capabilities.clone().unwrap())
        };
        let data = format!("files:{}", folder.join("data").display());
        assert_eq!(parse("files:link").unwrap().to_texts(), [data.as_str()]);
        assert_eq!(parse(&data).unwrap().to_texts(), [data.as_str()]);
        let missing = parse("files-read-only:missing").unwrap_err();
        assert!(missing.starts_with("app.toml:5: "), "{missing}");
        assert!(missing.contains("missing cannot be used") && missing.contains("create it"));
        assert!(parse("files:").unwrap_err().contains("an absolute path"));
    }
}
