//! The bytes of an established link: frames as they are, or in encrypted records.
//!
//! Owns the records of an encrypted link: a `u16` length, big-endian, and that many bytes of
//! ciphertext, at most [`MAX_RECORD_BYTES`]; and how bytes get from a batch to the socket and
//! from the socket to messages with as few copies as there can be.
//!
//! Never waits: what the socket does not take or have now is left for later. Deliberately does
//! not know what frames say, nor who calls when.

use std::io::{self, IoSlice, Write};
use std::mem::MaybeUninit;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use parking_lot::RwLock;
use snow::StatelessTransportState;
use wasm_node_protocol::frame::{Batch, FrameReader, Lane, Payload};

use super::outbox::{Drained, Outbox};
use super::transport::TransportError;

/// The longest record, without its length field, in bytes: the limit of Noise.
const MAX_RECORD_BYTES: usize = 65_535;

/// What encryption adds to a record, in bytes.
const TAG_BYTES: usize = 16;

/// A record's length field, in bytes.
const LENGTH_BYTES: usize = 2;

/// Both sides change keys after so many records: long before AES-GCM's limits.
const REKEY_EVERY_RECORDS: u64 = 1 << 20;

/// How much one read asks for, in bytes.
const READ_BYTES: usize = 256 * 1024;

/// How much is read behind the fragment of a large message, which has its own memory, in
/// bytes: what comes next is mostly the header of the next.
const READ_BEHIND_BYTES: usize = 4 * 1024;

/// How much goes to the socket at a time, in bytes: what a control message may have to wait
/// for, besides what the system has buffered.
const WRITE_BATCH_BYTES: usize = 256 * 1024;

/// The most pieces of memory that one write takes: what the system guarantees (`IOV_MAX`) is
/// more.
const MAX_WRITE_SLICES: usize = 64;

/// How a read went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Got {
    /// Nothing was there.
    Nothing,
    /// All that was there.
    All,
    /// As much as was asked for: perhaps there is more.
    Full,
}

/// How a write went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Written {
    /// Nothing waits any more.
    All,
    /// As much as was allowed.
    Part,
    /// As much as the system took.
    Blocked,
    /// Nothing waits, and nothing will.
    Finished,
}

/// Both halves of a channel; encrypted if there is a key.
pub fn halves(noise: Option<StatelessTransportState>, frames: FrameReader) -> (Receiver, Sender) {
    let state = noise.map(|state| Arc::new(RwLock::new(state)));
    let opener = state.clone().map(|state| Opener {
        state,
        nonce: 0,
        raw: Vec::new(),
        opened: 0,
    });
    let sealer = state.map(|state| Sealer { state, nonce: 0 });
    let sender = Sender {
        sealer,
        batch: Batch::default(),
        sealed: Vec::new(),
        total: 0,
        sent: 0,
    };
    (Receiver { opener, frames }, sender)
}

/// The incoming half of a channel.
pub struct Receiver {
    opener: Option<Opener>,
    frames: FrameReader,
}

impl Receiver {
    /// Reads what is there, some 260 KiB at most; take all of [`Receiver::next_message`] before
    /// the next call.
    pub fn read(&mut self, socket: &TcpStream) -> Result<Got, TransportError> {
        let got = match &mut self.opener {
            Some(opener) => {
                opener.compact();
                receive(socket, &mut opener.raw, READ_BYTES, None)
            }
            None => {
                let room = self.frames.room();
                let at_most = room.at_most.unwrap_or(READ_BYTES);
                receive(socket, room.into, at_most, room.behind)
            }
        };
        match got {
            Ok((0, _)) => Err(TransportError::Closed),
            Ok((_, true)) => Ok(Got::Full),
            Ok((_, false)) => Ok(Got::All),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Got::Nothing),
            Err(error) => Err(error.into()),
        }
    }

    /// The next whole message of what was read.
    pub fn next_message(&mut self) -> Result<Option<(Lane, Payload<'_>)>, TransportError> {
        loop {
            if self.frames.has_message()? {
                return Ok(self.frames.next_message()?);
            }
            let Some(opener) = &mut self.opener else {
                return Ok(None);
            };
            if !opener.open_next(&mut self.frames)? {
                return Ok(None);
            }
        }
    }

    /// Where bytes from the socket go.
    pub fn buffer_mut(&mut self) -> &mut Vec<u8> {
        match &mut self.opener {
            Some(opener) => {
                opener.compact();
                &mut opener.raw
            }
            None => self.frames.buffer_mut(),
        }
    }

    /// The longest message from now on, in bytes.
    pub fn set_limit(&mut self, limit: usize) {
        self.frames.set_limit(limit);
    }
}

/// Receives into the spare room of a buffer, at most so many bytes, and a little more behind.
/// How many came, and whether that was all that there was room for.
fn receive(
    socket: &TcpStream,
    into: &mut Vec<u8>,
    at_most: usize,
    mut behind: Option<&mut Vec<u8>>,
) -> io::Result<(usize, bool)> {
    into.reserve(at_most);
    let first = &mut into.spare_capacity_mut()[..at_most];
    let second: &mut [MaybeUninit<u8>] = match &mut behind {
        Some(behind) => {
            behind.reserve(READ_BEHIND_BYTES);
            &mut behind.spare_capacity_mut()[..READ_BEHIND_BYTES]
        }
        None => &mut [],
    };
    let room = first.len() + second.len();
    let slices = [
        libc::iovec {
            iov_base: first.as_mut_ptr().cast(),
            iov_len: first.len(),
        },
        libc::iovec {
            iov_base: second.as_mut_ptr().cast(),
            iov_len: second.len(),
        },
    ];
    let got = loop {
        // SAFETY: both slices are valid for writes of their lengths and not used meanwhile.
        let got = unsafe { libc::readv(socket.as_raw_fd(), slices.as_ptr(), 2) };
        match usize::try_from(got) {
            Ok(got) => break got,
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    };
    let of_first = got.min(at_most);
    // SAFETY: so many bytes of the spare capacity have just been written.
    unsafe { into.set_len(into.len() + of_first) };
    if let Some(behind) = behind {
        // SAFETY: as above.
        unsafe { behind.set_len(behind.len() + got - of_first) };
    }
    Ok((got, got == room))
}

struct Opener {
    state: Arc<RwLock<StatelessTransportState>>,
    nonce: u64,
    raw: Vec<u8>,
    /// What of `raw` is decrypted already.
    opened: usize,
}

impl Opener {
    /// Decrypts the next record, to where its bytes belong; whether there was one.
    fn open_next(&mut self, frames: &mut FrameReader) -> Result<bool, TransportError> {
        let Some((length, rest)) = self.raw[self.opened..].split_first_chunk::<LENGTH_BYTES>()
        else {
            return Ok(false);
        };
        let length = usize::from(u16::from_be_bytes(*length));
        let Some(record) = rest.get(..length) else {
            return Ok(false);
        };
        let plain = length
            .checked_sub(TAG_BYTES)
            .ok_or(TransportError::Decrypt)?;
        if self.nonce > 0 && self.nonce.is_multiple_of(REKEY_EVERY_RECORDS) {
            self.state.write().rekey_incoming();
        }
        let straight = frames.room().at_most.is_none_or(|most| plain <= most);
        let into = match straight {
            true => frames.room().into,
            false => frames.buffer_mut(),
        };
        let start = into.len();
        // With room for the tag too, the cipher decrypts in place.
        into.resize(start + length, 0);
        let opened = self
            .state
            .read()
            .read_message(self.nonce, record, &mut into[start..]);
        into.truncate(start + opened.map_err(|_| TransportError::Decrypt)?);
        self.nonce += 1;
        self.opened += LENGTH_BYTES + length;
        Ok(true)
    }

    fn compact(&mut self) {
        self.raw.drain(..self.opened);
        self.opened = 0;
    }
}

/// The outgoing half of a channel.
pub struct Sender {
    sealer: Option<Sealer>,
    /// What is being written, if it is not encrypted.
    batch: Batch,
    /// What is being written, if it is; never shrinks, as it has its full length soon.
    sealed: Vec<u8>,
    /// How much is being written, and how much of it is.
    total: usize,
    sent: usize,
}

impl Sender {
    /// Writes what waits, at most about `budget` bytes; says also how many it wrote.
    pub fn write(
        &mut self,
        socket: &TcpStream,
        outbox: &Outbox,
        budget: usize,
    ) -> Result<(Written, usize), TransportError> {
        let mut written = 0;
        loop {
            if self.sent == self.total {
                if written >= budget {
                    return Ok((Written::Part, written));
                }
                match outbox.fill(&mut self.batch, WRITE_BATCH_BYTES) {
                    None => self.load()?,
                    Some(Drained::Idle) => return Ok((Written::All, written)),
                    Some(Drained::Finished) => return Ok((Written::Finished, written)),
                }
            }
            match self.write_once(socket) {
                Ok(0) => return Err(TransportError::Closed),
                Ok(bytes) => {
                    written += bytes;
                    self.sent += bytes;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok((Written::Blocked, written));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
            if self.sent == self.total {
                // Lets go of the messages.
                self.batch.clear();
            }
        }
    }

    fn load(&mut self) -> Result<(), TransportError> {
        self.sent = 0;
        self.total = match &mut self.sealer {
            Some(sealer) => sealer.seal(self.batch.slices(), &mut self.sealed)?,
            None => self.batch.len(),
        };
        if self.sealer.is_some() {
            self.batch.clear();
        }
        Ok(())
    }

    fn write_once(&self, mut socket: &TcpStream) -> io::Result<usize> {
        if self.sealer.is_some() {
            return socket.write(&self.sealed[self.sent..self.total]);
        }
        let mut slices = [IoSlice::new(&[]); MAX_WRITE_SLICES];
        let mut skip = self.sent;
        let mut count = 0;
        for slice in self.batch.slices() {
            let rest = slice.get(skip..).unwrap_or_default();
            skip -= slice.len() - rest.len();
            if !rest.is_empty() && count < MAX_WRITE_SLICES {
                slices[count] = IoSlice::new(rest);
                count += 1;
            }
        }
        socket.write_vectored(&slices[..count])
    }

    /// One message of the handshake, as bytes for the socket.
    pub fn seal<'a>(&'a mut self, frame: &'a [u8]) -> Result<&'a [u8], TransportError> {
        match &mut self.sealer {
            Some(sealer) => {
                let length = sealer.seal([frame].into_iter(), &mut self.sealed)?;
                Ok(&self.sealed[..length])
            }
            None => Ok(frame),
        }
    }
}

struct Sealer {
    state: Arc<RwLock<StatelessTransportState>>,
    nonce: u64,
}

impl Sealer {
    /// Encrypts into as many records as it takes; their length together.
    fn seal<'a>(
        &mut self,
        slices: impl Iterator<Item = &'a [u8]>,
        out: &mut Vec<u8>,
    ) -> Result<usize, TransportError> {
        let mut end = 0;
        for chunk in slices.flat_map(|slice| slice.chunks(MAX_RECORD_BYTES - TAG_BYTES)) {
            if self.nonce > 0 && self.nonce.is_multiple_of(REKEY_EVERY_RECORDS) {
                self.state.write().rekey_outgoing();
            }
            let length = chunk.len() + TAG_BYTES;
            let start = end + LENGTH_BYTES;
            end = start + length;
            if out.len() < end {
                out.resize(end, 0);
            }
            out[start - LENGTH_BYTES..start].copy_from_slice(&(length as u16).to_be_bytes());
            let sealed = self
                .state
                .read()
                .write_message(self.nonce, chunk, &mut out[start..end]);
            sealed.map_err(TransportError::Cipher)?;
            self.nonce += 1;
        }
        Ok(end)
    }
}
