//! The canonical ABI: how values lie in a guest's memory and among a call's arguments.
//!
//! Owns the layouts and nothing else; those of the types of `wit/` are in [`contract`]. Follows the component model's `CanonicalABI.md`
//! (alignment, flattening, joining of variants' cases; 32-bit memories, UTF-8). What a guest
//! passes is checked as the component layer would: a bad pointer, discriminant or string is an
//! error, and ends the actor.

use wasmtime::{AsContextMut, Func, Memory, Result, StoreContextMut, ValRaw, ValType, bail};

use crate::wasm::data::ActorData;

/// A type's place in memory and among arguments.
pub(super) trait Layout: Sized {
    const SIZE: usize;
    const ALIGN: usize;
    /// How many arguments it takes.
    const FLATS: usize;
    /// Their types.
    fn flatten(into: &mut Vec<ValType>);
}

/// A value that guests pass to the host.
pub(super) trait Lift: Layout {
    /// From the first `FLATS` of these arguments.
    fn lift(flats: &[ValRaw], memory: &[u8]) -> Result<Self>;
    fn load(memory: &[u8], at: usize) -> Result<Self>;
}

/// A value that the host passes to guests.
pub(super) trait Lower: Layout {
    /// Into `SIZE` bytes, which go into the guest's memory when all of a result is there; what
    /// lies elsewhere goes into the guest at once.
    fn store(self, guest: &mut Guest<'_>, to: &mut [u8]) -> Result<()>;
    /// Into the first `SIZE` of these bytes.
    fn store_first(self, guest: &mut Guest<'_>, to: &mut [u8]) -> Result<()> {
        self.store(guest, &mut to[..Self::SIZE])
    }
    /// As the only result, for types that take one argument or none.
    fn scalar(&self) -> u64 {
        0
    }
}

/// Where an instance keeps values, and how it makes room for more.
#[derive(Clone, Copy)]
pub(in crate::wasm) struct Space {
    pub(super) memory: Memory,
    /// `cabi_realloc`: old pointer, old size, alignment, new size. Its type was checked.
    pub(super) realloc: Func,
    /// Where the guest keeps its free blocks, if it says so; see `wit/actor.wit`.
    pub(super) free_lists: Option<u32>,
    /// Where it wants to be told whether more messages wait; see there, too.
    pub(super) more_waits: Option<u32>,
    /// Its first function of all runs: what the host tells it now becomes part of it.
    pub(super) initializing: bool,
}

/// Of the free lists: the blocks of each are so many bytes larger than those of the one before,
/// and aligned to as much.
const FREE_BLOCK_STEP_BYTES: usize = 16;
const FREE_LISTS: usize = 32;

/// The canonical ABI's `MAX_FLAT_PARAMS`: parameters of more than so many arguments lie in memory,
/// and one argument points there.
pub(super) const MAX_FLAT_PARAMS: usize = 16;

/// An instance that values are lowered into.
pub(super) struct Guest<'a> {
    store: StoreContextMut<'a, ActorData>,
    space: Space,
}

impl<'a> Guest<'a> {
    pub(super) fn new(store: StoreContextMut<'a, ActorData>, space: Space) -> Self {
        Self { store, space }
    }

    /// Lowers a result to where the guest wants it.
    pub(super) fn result<T: Lower>(&mut self, value: T, at: usize) -> Result<()> {
        const { assert!(T::SIZE <= MAX_RESULT_BYTES) };
        let mut result = [0; MAX_RESULT_BYTES];
        let result = &mut result[..T::SIZE];
        value.store(self, result)?;
        self.write(at, result)
    }

    /// After `mailbox.next`: whether the guest need call it again.
    pub(super) fn tell_more_waits(&mut self) -> Result<()> {
        match self.space.more_waits {
            Some(at) => {
                let more = u32::from(self.store.data().more_waits);
                self.write(at as usize, &more.to_le_bytes())
            }
            None => Ok(()),
        }
    }

    /// Lowers bytes; gives where they are.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Result<usize> {
        let at = self.allocate(1, bytes.len())?;
        self.write(at, bytes)?;
        Ok(at)
    }

    fn allocate(&mut self, align: usize, bytes: usize) -> Result<usize> {
        if let Some(at) = self.take_free(align, bytes) {
            return Ok(at);
        }
        let (align, size) = (u32::try_from(align)?, u32::try_from(bytes)?);
        let mut call = [
            ValRaw::u32(0),
            ValRaw::u32(0),
            ValRaw::u32(align),
            ValRaw::u32(size),
        ];
        // SAFETY: four arguments, one result, all i32: `shape` checked the export's type.
        unsafe {
            self.space
                .realloc
                .call_unchecked(self.store.as_context_mut(), &mut call)?;
        }
        let at = call[0].get_u32() as usize;
        if !at.is_multiple_of(align as usize) {
            bail!("cabi_realloc gave an address that is not aligned");
        }
        Ok(at)
    }

    /// A block of the guest's free lists. What does not look like one is left alone.
    fn take_free(&mut self, align: usize, bytes: usize) -> Option<usize> {
        let lists = self.space.free_lists? as usize;
        let class = bytes.checked_sub(1)? / FREE_BLOCK_STEP_BYTES;
        if class >= FREE_LISTS || align > FREE_BLOCK_STEP_BYTES {
            return None;
        }
        let memory = self.space.memory.data_mut(&mut self.store);
        let head = lists + class * size_of::<u32>();
        let block = u32::load(memory, head).ok()? as usize;
        if block == 0 || !block.is_multiple_of(FREE_BLOCK_STEP_BYTES) {
            return None;
        }
        let next = u32::load(memory, block).ok()?;
        memory
            .get_mut(head..head + size_of::<u32>())?
            .copy_from_slice(&next.to_le_bytes());
        Some(block)
    }

    fn write(&mut self, at: usize, bytes: &[u8]) -> Result<()> {
        let memory = self.space.memory.data_mut(&mut self.store);
        match memory.get_mut(at..).and_then(|m| m.get_mut(..bytes.len())) {
            Some(to) => to.copy_from_slice(bytes),
            None => bail!("pointer out of bounds of memory"),
        }
        Ok(())
    }
}

/// More than the largest result takes.
const MAX_RESULT_BYTES: usize = 128;

/// So many bytes of a guest's memory.
fn slice(memory: &[u8], at: usize, bytes: usize) -> Result<&[u8]> {
    match memory.get(at..).and_then(|memory| memory.get(..bytes)) {
        Some(slice) => Ok(slice),
        None => bail!("pointer out of bounds of memory"),
    }
}

const fn align_up(at: usize, align: usize) -> usize {
    at.next_multiple_of(align)
}

const fn max(a: usize, b: usize) -> usize {
    if a > b { a } else { b }
}

/// The type of an argument that is one thing in this case of a variant and another in that.
fn join(a: &ValType, b: &ValType) -> ValType {
    match (a, b) {
        (ValType::I32, ValType::I32) => ValType::I32,
        _ => ValType::I64,
    }
}

/// A variant's arguments: its tag, then what all of its cases fit into.
fn flatten_cases(cases: &[fn(&mut Vec<ValType>)], into: &mut Vec<ValType>) {
    let mut joined: Vec<ValType> = Vec::new();
    for case in cases {
        let mut flats = Vec::new();
        case(&mut flats);
        for (at, flat) in flats.into_iter().enumerate() {
            match joined.get_mut(at) {
                Some(have) => *have = join(have, &flat),
                None => joined.push(flat),
            }
        }
    }
    into.push(ValType::I32);
    into.extend(joined);
}

macro_rules! integer {
    ($($type:ty, $flat:ident, $get:ident);* $(;)?) => {$(
        impl Layout for $type {
            const SIZE: usize = size_of::<$type>();
            const ALIGN: usize = size_of::<$type>();
            const FLATS: usize = 1;
            fn flatten(into: &mut Vec<ValType>) {
                into.push(ValType::$flat);
            }
        }
        impl Lift for $type {
            fn lift(flats: &[ValRaw], _: &[u8]) -> Result<Self> {
                Ok(flats[0].$get())
            }
            fn load(memory: &[u8], at: usize) -> Result<Self> {
                let mut bytes = [0; size_of::<$type>()];
                bytes.copy_from_slice(slice(memory, at, size_of::<$type>())?);
                Ok(Self::from_le_bytes(bytes))
            }
        }
        impl Lower for $type {
            fn store(self, _: &mut Guest<'_>, to: &mut [u8]) -> Result<()> {
                to.copy_from_slice(&self.to_le_bytes());
                Ok(())
            }
            fn scalar(&self) -> u64 {
                u64::from(*self)
            }
        }
    )*};
}

integer! {
    u32, I32, get_u32;
    u64, I64, get_u64;
}

fn load_tag(memory: &[u8], at: usize) -> Result<u32> {
    Ok(u32::from(slice(memory, at, 1)?[0]))
}

impl Layout for bool {
    const SIZE: usize = 1;
    const ALIGN: usize = 1;
    const FLATS: usize = 1;
    fn flatten(into: &mut Vec<ValType>) {
        into.push(ValType::I32);
    }
}

impl Lift for bool {
    fn lift(flats: &[ValRaw], _: &[u8]) -> Result<Self> {
        Ok(flats[0].get_u32() != 0)
    }
    fn load(memory: &[u8], at: usize) -> Result<Self> {
        Ok(load_tag(memory, at)? != 0)
    }
}

impl Lower for bool {
    fn store(self, _: &mut Guest<'_>, to: &mut [u8]) -> Result<()> {
        to[0] = u8::from(self);
        Ok(())
    }
    fn scalar(&self) -> u64 {
        u64::from(*self)
    }
}

/// Lists and strings lie elsewhere: here are a pointer and a length.
macro_rules! pointer {
    ($($type:ty),*) => {$(
        impl Layout for $type {
            const SIZE: usize = 8;
            const ALIGN: usize = 4;
            const FLATS: usize = 2;
            fn flatten(into: &mut Vec<ValType>) {
                into.extend([ValType::I32, ValType::I32]);
            }
        }
    )*};
}

pointer!(Vec<u8>, String, bytes::Bytes, Vec<String>);

fn store_pointer(to: &mut [u8], at: usize, count: usize) -> Result<()> {
    let (at, count) = (u32::try_from(at)?, u32::try_from(count)?);
    to.copy_from_slice(&(u64::from(count) << 32 | u64::from(at)).to_le_bytes());
    Ok(())
}

impl Lift for Vec<u8> {
    fn lift(flats: &[ValRaw], memory: &[u8]) -> Result<Self> {
        let (at, bytes) = (flats[0].get_u32() as usize, flats[1].get_u32() as usize);
        Ok(slice(memory, at, bytes)?.to_vec())
    }
    fn load(memory: &[u8], at: usize) -> Result<Self> {
        let (to, bytes) = (u32::load(memory, at)?, u32::load(memory, at + 4)?);
        Ok(slice(memory, to as usize, bytes as usize)?.to_vec())
    }
}

impl Lower for Vec<u8> {
    fn store(self, guest: &mut Guest<'_>, to: &mut [u8]) -> Result<()> {
        let at = guest.bytes(&self)?;
        store_pointer(to, at, self.len())
    }
}

impl Lower for bytes::Bytes {
    fn store(self, guest: &mut Guest<'_>, to: &mut [u8]) -> Result<()> {
        let at = guest.bytes(&self)?;
        store_pointer(to, at, self.len())
    }
}

impl Lift for String {
    fn lift(flats: &[ValRaw], memory: &[u8]) -> Result<Self> {
        Ok(String::from_utf8(Vec::lift(flats, memory)?)?)
    }
    fn load(memory: &[u8], at: usize) -> Result<Self> {
        Ok(String::from_utf8(Vec::load(memory, at)?)?)
    }
}

impl Lower for String {
    fn store(self, guest: &mut Guest<'_>, to: &mut [u8]) -> Result<()> {
        let at = guest.bytes(self.as_bytes())?;
        store_pointer(to, at, self.len())
    }
}

macro_rules! list {
    ($($type:ty),*) => {$(
        impl Lower for Vec<$type> {
            fn store(self, guest: &mut Guest<'_>, to: &mut [u8]) -> Result<()> {
                let mut elements = vec![0; <$type>::SIZE * self.len()];
                let count = self.len();
                for (each, to) in self.into_iter().zip(elements.chunks_exact_mut(<$type>::SIZE)) {
                    each.store(guest, to)?;
                }
                let at = guest.allocate(<$type>::ALIGN, elements.len())?;
                guest.write(at, &elements)?;
                store_pointer(to, at, count)
            }
        }
    )*};
}

list!(String);

impl Lift for Vec<String> {
    fn lift(flats: &[ValRaw], memory: &[u8]) -> Result<Self> {
        load_texts(memory, flats[0].get_u32(), flats[1].get_u32())
    }
    fn load(memory: &[u8], at: usize) -> Result<Self> {
        load_texts(memory, u32::load(memory, at)?, u32::load(memory, at + 4)?)
    }
}

fn load_texts(memory: &[u8], at: u32, count: u32) -> Result<Vec<String>> {
    let at = at as usize;
    if !at.is_multiple_of(String::ALIGN) {
        bail!("list pointer is not aligned");
    }
    let bytes = count as usize * String::SIZE;
    let elements = slice(memory, at, bytes)?;
    let mut texts = Vec::with_capacity(count as usize);
    // Texts may lie over each other: small in the guest, and not here.
    let mut left = memory.len();
    for offset in (0..elements.len()).step_by(String::SIZE) {
        let text = String::load(memory, at + offset)?;
        match left.checked_sub(text.len()) {
            Some(rest) => left = rest,
            None => bail!("texts of more bytes than the memory has"),
        }
        texts.push(text);
    }
    Ok(texts)
}

/// Records and tuples: one field after the other.
macro_rules! record {
    ($type:ty, ($($field:tt: $of:ident: $ty:ty),*), $make:expr $(, $generic:ident)*) => {
        impl<$($generic: Layout),*> Layout for $type {
            const ALIGN: usize = {
                #[allow(unused_mut, reason = "a record without fields")]
                let mut align = 1;
                $(align = max(align, <$ty>::ALIGN);)*
                align
            };
            const SIZE: usize = {
                #[allow(unused_mut, reason = "a record without fields")]
                let mut size = 0;
                $(size = align_up(size, <$ty>::ALIGN) + <$ty>::SIZE;)*
                align_up(size, Self::ALIGN)
            };
            const FLATS: usize = 0 $(+ <$ty>::FLATS)*;
            fn flatten(_into: &mut Vec<ValType>) {
                $(<$ty>::flatten(_into);)*
            }
        }
        impl<$($generic: Lift),*> Lift for $type {
            fn lift(_flats: &[ValRaw], _memory: &[u8]) -> Result<Self> {
                let _from = 0;
                $(
                    let $of = <$ty>::lift(&_flats[_from..], _memory)?;
                    let _from = _from + <$ty>::FLATS;
                )*
                Ok($make)
            }
            fn load(_memory: &[u8], _at: usize) -> Result<Self> {
                $(
                    let _at = align_up(_at, <$ty>::ALIGN);
                    let $of = <$ty>::load(_memory, _at)?;
                    let _at = _at + <$ty>::SIZE;
                )*
                Ok($make)
            }
        }
        impl<$($generic: Lower),*> Lower for $type {
            fn store(self, _guest: &mut Guest<'_>, _to: &mut [u8]) -> Result<()> {
                let _at = 0;
                $(
                    let _at = align_up(_at, <$ty>::ALIGN);
                    self.$field.store(_guest, &mut _to[_at.._at + <$ty>::SIZE])?;
                    let _at = _at + <$ty>::SIZE;
                )*
                Ok(())
            }
        }
    };
}

record!((), (), ());
record!((A,), (0: a: A), (a,), A);
record!((A, B), (0: a: A, 1: b: B), (a, b), A, B);
record!((A, B, C), (0: a: A, 1: b: B, 2: c: C), (a, b, c), A, B, C);
record!((A, B, C, D), (0: a: A, 1: b: B, 2: c: C, 3: d: D), (a, b, c, d), A, B, C, D);

/// Variants: a tag of one byte, then the case's value. First the cases with a value, then
/// those without.
macro_rules! variant {
    (
        $type:ty, ($($generic:ident),*),
        {$($tag:literal $pattern:pat => $with:expr, $value:ident: $ty:ty;)*},
        {$($plain_tag:literal $plain:pat => $without:expr;)*}
    ) => {
        variant!(layout $type, ($($generic),*), $($ty),*);
        impl<$($generic: Lift),*> Lift for $type {
            fn lift(flats: &[ValRaw], _memory: &[u8]) -> Result<Self> {
                Ok(match flats[0].get_u32() {
                    $($tag => {
                        let $value = <$ty>::lift(&flats[1..], _memory)?;
                        $with
                    })*
                    $($plain_tag => $without,)*
                    tag => bail!("{tag} is no case of the variant"),
                })
            }
            fn load(memory: &[u8], at: usize) -> Result<Self> {
                Ok(match load_tag(memory, at)? {
                    $($tag => {
                        let $value = <$ty>::load(memory, at + align_up(1, Self::ALIGN))?;
                        $with
                    })*
                    $($plain_tag => $without,)*
                    tag => bail!("{tag} is no case of the variant"),
                })
            }
        }
        impl<$($generic: Lower),*> Lower for $type {
            fn store(self, _guest: &mut Guest<'_>, to: &mut [u8]) -> Result<()> {
                match self {
                    $($pattern => {
                        to[0] = $tag;
                        let at = align_up(1, Self::ALIGN);
                        $value.store(_guest, &mut to[at..at + <$ty>::SIZE])
                    })*
                    $($plain => {
                        to[0] = $plain_tag;
                        Ok(())
                    })*
                }
            }
            fn scalar(&self) -> u64 {
                #[allow(unused_variables, reason = "only the tag is asked for")]
                match self {
                    $($pattern => $tag,)*
                    $($plain => $plain_tag,)*
                }
            }
        }
    };
    (layout $type:ty, ($($generic:ident),*), $($ty:ty),*) => {
        impl<$($generic: Layout),*> Layout for $type {
            const ALIGN: usize = {
                #[allow(unused_mut, reason = "a variant without values")]
                let mut align = 1;
                $(align = max(align, <$ty>::ALIGN);)*
                align
            };
            const SIZE: usize = {
                #[allow(unused_mut, reason = "a variant without values")]
                let mut size = 0;
                $(size = max(size, <$ty>::SIZE);)*
                align_up(align_up(1, Self::ALIGN) + size, Self::ALIGN)
            };
            const FLATS: usize = {
                #[allow(unused_mut, reason = "a variant without values")]
                let mut flats = 0;
                $(flats = max(flats, <$ty>::FLATS);)*
                1 + flats
            };
            fn flatten(into: &mut Vec<ValType>) {
                flatten_cases(&[$(<$ty>::flatten),*], into);
            }
        }
    };
}

variant!(Option<T>, (T), { 1 Some(value) => Some(value), value: T; }, { 0 None => None; });
variant!(
    Result<T, E>, (T, E),
    { 0 Ok(value) => Ok(value), value: T; 1 Err(error) => Err(error), error: E; },
    {}
);

// Behind the macros, which it uses.
mod contract;
