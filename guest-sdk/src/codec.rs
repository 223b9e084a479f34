//! The default wire format of calls, casts, arguments and state: postcard.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// What a small message needs, so that encoding it allocates once.
const USUAL_MESSAGE_BYTES: usize = 64;

/// A value as postcard. Fails only for types whose `Serialize` does (a map or sequence of
/// unknown length); then the result is empty and the fault is printed.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    match postcard::to_extend(value, Vec::with_capacity(USUAL_MESSAGE_BYTES)) {
        Ok(bytes) => bytes,
        Err(error) => {
            crate::io::print_error(&format!("cannot encode a message: {error}\n"));
            Vec::new()
        }
    }
}

/// A value from postcard. The error says why the bytes are not one.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    postcard::from_bytes(bytes).map_err(|error| {
        format!(
            "{} bytes are no {}: {error}",
            bytes.len(),
            std::any::type_name::<T>()
        )
    })
}
