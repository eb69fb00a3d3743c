//! NumPy's `.npy` arrays (format versions 1 to 3), read whole and written in C order.
//!
//! The format is a short header and raw values, so it is read here and not through a library: every length is checked
//! (with overflow) against the bytes that are there before memory is taken, and the header's Python literal has a
//! fixed form that needs no general parser, which a deeply nested literal could exhaust.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use half::f16;

use crate::error::{DataError, Result};

/// The longest header that is read, in bytes (NumPy itself stops at 10 000 characters unless told otherwise).
const HEADER_LIMIT: usize = 64 << 10;

/// The most axes of an array (NumPy's own limit).
const RANK_LIMIT: usize = 64;

macro_rules! element_types {
    ($($variant:ident, $type:ty, $code:literal, $name:literal, $from:expr, $to:expr;)*) => {
        /// The elements of an array in row-major order.
        #[derive(Debug, Clone, PartialEq)]
        pub enum NpyData {
            $(#[doc = concat!("NumPy's `", $name, "`.")] $variant(Vec<$type>),)*
        }

        impl NpyData {
            /// Number of elements.
            pub fn len(&self) -> usize {
                match self { $(NpyData::$variant(values) => values.len(),)* }
            }

            /// The element type in NumPy's spelling, such as `float32`.
            pub fn element(&self) -> &'static str {
                match self { $(NpyData::$variant(_) => $name,)* }
            }

            /// The header's type code without its byte order, such as `f4`.
            fn code(&self) -> &'static str {
                match self { $(NpyData::$variant(_) => $code,)* }
            }

            /// Elements of a type code from raw bytes; `None` for a code that is not supported.
            fn decode(code: &str, big_endian: bool, bytes: &[u8]) -> Option<Self> {
                match code {
                    $($code => Some(NpyData::$variant(decode_elements(bytes, big_endian, $from))),)*
                    _ => None,
                }
            }

            /// Writes the elements little-endian.
            fn encode(&self, out: &mut impl Write) -> io::Result<()> {
                match self {
                    $(NpyData::$variant(values) => values.iter().try_for_each(|&value| out.write_all(&$to(value))),)*
                }
            }

            /// From Fortran order (first axis fastest) to row-major order.
            fn transposed(self, shape: &[usize]) -> Self {
                match self { $(NpyData::$variant(values) => NpyData::$variant(transpose(&values, shape)),)* }
            }
        }
    };
}

element_types! {
    Bool, bool, "b1", "bool", |[byte]: [u8; 1]| byte != 0, |value| [u8::from(value)];
    I8, i8, "i1", "int8", i8::from_le_bytes, i8::to_le_bytes;
    U8, u8, "u1", "uint8", u8::from_le_bytes, u8::to_le_bytes;
    I16, i16, "i2", "int16", i16::from_le_bytes, i16::to_le_bytes;
    U16, u16, "u2", "uint16", u16::from_le_bytes, u16::to_le_bytes;
    I32, i32, "i4", "int32", i32::from_le_bytes, i32::to_le_bytes;
    U32, u32, "u4", "uint32", u32::from_le_bytes, u32::to_le_bytes;
    I64, i64, "i8", "int64", i64::from_le_bytes, i64::to_le_bytes;
    U64, u64, "u8", "uint64", u64::from_le_bytes, u64::to_le_bytes;
    F16, f16, "f2", "float16", f16::from_le_bytes, f16::to_le_bytes;
    F32, f32, "f4", "float32", f32::from_le_bytes, f32::to_le_bytes;
    F64, f64, "f8", "float64", f64::from_le_bytes, f64::to_le_bytes;
}

impl NpyData {
    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn decode_elements<T, const N: usize>(
    bytes: &[u8],
    big_endian: bool,
    from_le: impl Fn([u8; N]) -> T,
) -> Vec<T> {
    let element = |chunk: &[u8]| {
        let mut raw: [u8; N] = chunk.try_into().expect("chunks_exact gives N bytes");
        if big_endian {
            raw.reverse();
        }
        from_le(raw)
    };
    bytes.chunks_exact(N).map(element).collect()
}

fn transpose<T: Copy>(values: &[T], shape: &[usize]) -> Vec<T> {
    let mut strides = vec![1; shape.len()];
    for axis in 1..shape.len() {
        strides[axis] = strides[axis - 1] * shape[axis - 1];
    }
    let mut index = vec![0; shape.len()];
    let mut at = 0;
    let mut ordered = Vec::with_capacity(values.len());
    for _ in 0..values.len() {
        ordered.push(values[at]);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            at += strides[axis];
            if index[axis] < shape[axis] {
                break;
            }
            at -= strides[axis] * shape[axis];
            index[axis] = 0;
        }
    }
    ordered
}

/// An array: a shape and as many elements.
#[derive(Debug, Clone, PartialEq)]
pub struct NpyArray {
    shape: Vec<usize>,
    data: NpyData,
}

impl NpyArray {
    /// An array of this shape (row-major; no axes for a scalar).
    ///
    /// Errors: the shape's product is not the number of elements.
    pub fn new(shape: Vec<usize>, data: NpyData) -> Result<Self> {
        if shape.len() > RANK_LIMIT || element_count(&shape) != Some(data.len()) {
            return Err(DataError::Request(format!(
                "{} elements do not fill the shape {shape:?}",
                data.len()
            )));
        }
        Ok(NpyArray { shape, data })
    }

    /// Extents, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Elements in row-major order.
    pub fn data(&self) -> &NpyData {
        &self.data
    }

    /// Shape and elements.
    pub fn into_parts(self) -> (Vec<usize>, NpyData) {
        (self.shape, self.data)
    }

    /// Reads a `.npy` file. Fortran order and either byte order are accepted.
    ///
    /// Errors: not a `.npy` file, an element type that is no plain number, or a length that does not fit the shape.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let mut file = File::open(path).map_err(DataError::reading(path))?;
        let metadata = file.metadata().map_err(DataError::reading(path))?;
        // A pipe has no length to compare with; its content is then bounded by what the header announces.
        let file_length = metadata.is_file().then_some(metadata.len());
        let malformed = |reason: String| DataError::malformed(path, reason);

        let header = read_header(&mut file).map_err(|error| match error {
            HeaderError::Io(source) if source.kind() != io::ErrorKind::UnexpectedEof => {
                DataError::reading(path)(source)
            }
            HeaderError::Io(_) => malformed("the file ends within its header; write it again".to_string()),
            HeaderError::Form(reason) => malformed(format!("not a usable .npy file: {reason}")),
        })?;
        let length = element_count(&header.shape)
            .and_then(|count| count.checked_mul(header.element_bytes))
            .filter(|&length| length <= isize::MAX as usize)
            .ok_or_else(|| malformed(format!("the shape {:?} is larger than memory", header.shape)))?;
        let mismatch = |found: u64| {
            malformed(format!(
                "the shape {:?} of {} takes {length} bytes but the file has {found} after its header; write it again",
                header.shape, header.code
            ))
        };
        if let Some(found) = file_length.map(|bytes| bytes.saturating_sub(header.bytes))
            && found != length as u64
        {
            return Err(mismatch(found));
        }
        let mut bytes = Vec::new();
        file.take(length as u64 + 1).read_to_end(&mut bytes).map_err(DataError::reading(path))?;
        if bytes.len() != length {
            return Err(mismatch(bytes.len() as u64));
        }
        let mut data = NpyData::decode(&header.code, header.big_endian, &bytes)
            .expect("the header's code was checked to be one of the element types");
        if header.fortran_order {
            data = data.transposed(&header.shape);
        }
        Ok(NpyArray { shape: header.shape, data })
    }

    /// Writes a `.npy` file (version 1, little-endian, C order). The file appears whole or not at all.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let mut partial = path.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let written = self.write_to(&partial).and_then(|()| fs::rename(&partial, path));
        written.map_err(|source| {
            // The first error is the one to report; a leftover that cannot be removed changes nothing about it.
            let _ = fs::remove_file(&partial);
            DataError::writing(path)(source)
        })
    }

    fn write_to(&self, path: &Path) -> io::Result<()> {
        let extents: String = self.shape.iter().map(|extent| format!("{extent}, ")).collect();
        let order = if self.data.code().ends_with('1') { '|' } else { '<' };
        let mut header = format!(
            "{{'descr': '{order}{}', 'fortran_order': False, 'shape': ({}), }}",
            self.data.code(),
            if self.shape.len() == 1 { extents.trim_end() } else { extents.trim_end_matches(", ") }
        );
        // The values start at a multiple of 64 bytes; the header ends in a line feed.
        let prefix = MAGIC.len() + 4;
        let padded = (prefix + header.len() + 1).next_multiple_of(64) - prefix;
        header.push_str(&" ".repeat(padded - 1 - header.len()));
        header.push('\n');
        let mut out = BufWriter::new(File::create(path)?);
        out.write_all(MAGIC)?;
        out.write_all(&[1, 0])?;
        let length =
            u16::try_from(header.len()).expect("64 extents of 20 digits are shorter than a header may be");
        out.write_all(&length.to_le_bytes())?;
        out.write_all(header.as_bytes())?;
        self.data.encode(&mut out)?;
        out.flush()
    }

    /// The elements as token ids, row-major.
    ///
    /// Errors: elements that are not integers, or one outside 0 … 2³²-1.
    pub fn token_ids(&self) -> Result<Vec<u32>> {
        fn convert<T: Copy + TryInto<u32> + std::fmt::Display>(values: &[T]) -> Result<Vec<u32>> {
            let id = |(at, &value): (usize, &T)| {
                let wrong =
                    || DataError::Request(format!("element {at} is {value}, which is not a token id"));
                value.try_into().map_err(|_| wrong())
            };
            values.iter().enumerate().map(id).collect()
        }
        match &self.data {
            NpyData::I8(values) => convert(values),
            NpyData::U8(values) => convert(values),
            NpyData::I16(values) => convert(values),
            NpyData::U16(values) => convert(values),
            NpyData::I32(values) => convert(values),
            NpyData::U32(values) => Ok(values.clone()),
            NpyData::I64(values) => convert(values),
            NpyData::U64(values) => convert(values),
            NpyData::Bool(_) | NpyData::F16(_) | NpyData::F32(_) | NpyData::F64(_) => {
                Err(DataError::Request(format!(
                    "elements are {}, but token ids are integers; convert the array",
                    self.data.element()
                )))
            }
        }
    }
}

const MAGIC: &[u8] = b"\x93NUMPY";

/// The product of the extents, `None` where it overflows. Extents beside a 0 must fit as well, so that strides do.
fn element_count(shape: &[usize]) -> Option<usize> {
    let filled = shape.iter().try_fold(1usize, |count, &extent| count.checked_mul(extent.max(1)))?;
    Some(if shape.contains(&0) { 0 } else { filled })
}

/// What a header says.
#[derive(Debug)]
struct Header {
    code: String,
    element_bytes: usize,
    big_endian: bool,
    fortran_order: bool,
    shape: Vec<usize>,
    /// Where the values start.
    bytes: u64,
}

enum HeaderError {
    Io(io::Error),
    Form(String),
}

impl From<io::Error> for HeaderError {
    fn from(error: io::Error) -> Self {
        HeaderError::Io(error)
    }
}

impl From<String> for HeaderError {
    fn from(reason: String) -> Self {
        HeaderError::Form(reason)
    }
}

fn read_header(file: &mut impl Read) -> std::result::Result<Header, HeaderError> {
    let mut prefix = [0; 8];
    file.read_exact(&mut prefix)?;
    if prefix[..6] != *MAGIC {
        return Err("it does not start with \\x93NUMPY; save the array with numpy.save".to_string().into());
    }
    let (length, bytes_before) = match prefix[6] {
        1 => {
            let mut length = [0; 2];
            file.read_exact(&mut length)?;
            (usize::from(u16::from_le_bytes(length)), 10)
        }
        2 | 3 => {
            let mut length = [0; 4];
            file.read_exact(&mut length)?;
            (u32::from_le_bytes(length) as usize, 12)
        }
        version => return Err(format!("format version {version} is not known").into()),
    };
    if length > HEADER_LIMIT {
        return Err(format!("a header of {length} bytes is longer than the {HEADER_LIMIT} allowed").into());
    }
    let mut text = vec![0; length];
    file.read_exact(&mut text)?;
    let text = String::from_utf8(text).map_err(|_| "the header is not text".to_string())?;
    Ok(parse_header(&text, bytes_before + length as u64)?)
}

/// Parses `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`, keys in any order.
fn parse_header(text: &str, bytes: u64) -> std::result::Result<Header, String> {
    let mut literal = Literal { rest: text };
    let (mut descr, mut fortran_order, mut shape) = (None, None, None);
    literal.expect("{")?;
    while !literal.accept("}") {
        let key = literal.string()?;
        literal.expect(":")?;
        match key {
            "descr" => descr = Some(literal.string()?),
            "fortran_order" => fortran_order = Some(literal.boolean()?),
            "shape" => shape = Some(literal.extents()?),
            other => return Err(format!("the header has an unknown key `{other}`")),
        }
        if !literal.accept(",") {
            literal.expect("}")?;
            break;
        }
    }
    let missing = |key: &str| format!("the header lacks `{key}`");
    let descr = descr.ok_or_else(|| missing("descr"))?;
    let unsupported = || {
        format!("element type `{descr}` is not supported; use bool, an integer or a float of at most 64 bits")
    };
    let (big_endian, code) = match descr.split_at_checked(1) {
        Some(("<" | "|" | "=", code)) => (false, code),
        Some((">", code)) => (true, code),
        _ => return Err(unsupported()),
    };
    NpyData::decode(code, big_endian, &[]).ok_or_else(unsupported)?;
    let element_bytes = code[1..].parse().map_err(|_| unsupported())?;
    Ok(Header {
        code: code.to_string(),
        element_bytes,
        big_endian,
        fortran_order: fortran_order.ok_or_else(|| missing("fortran_order"))?,
        shape: shape.ok_or_else(|| missing("shape"))?,
        bytes,
    })
}

/// The unread part of a header.
struct Literal<'t> {
    rest: &'t str,
}

impl<'t> Literal<'t> {
    fn accept(&mut self, word: &str) -> bool {
        let rest = self.rest.trim_start();
        let found = rest.strip_prefix(word);
        self.rest = found.unwrap_or(rest);
        found.is_some()
    }

    fn expect(&mut self, word: &str) -> std::result::Result<(), String> {
        if self.accept(word) { Ok(()) } else { Err(self.unexpected(&format!("`{word}`"))) }
    }

    fn unexpected(&self, wanted: &str) -> String {
        let found: String = self.rest.chars().take(20).collect();
        format!("the header has {found:?} where {wanted} should be")
    }

    fn string(&mut self) -> std::result::Result<&'t str, String> {
        let quote = if self.accept("'") {
            '\''
        } else if self.accept("\"") {
            '"'
        } else {
            return Err(self.unexpected("a plain string (structured arrays are not supported)"));
        };
        let (string, rest) = self.rest.split_once(quote).ok_or_else(|| self.unexpected("a closed string"))?;
        self.rest = rest;
        Ok(string)
    }

    fn boolean(&mut self) -> std::result::Result<bool, String> {
        if self.accept("True") {
            Ok(true)
        } else if self.accept("False") {
            Ok(false)
        } else {
            Err(self.unexpected("`True` or `False`"))
        }
    }

    fn extents(&mut self) -> std::result::Result<Vec<usize>, String> {
        let mut extents = Vec::new();
        self.expect("(")?;
        while !self.accept(")") {
            let rest = self.rest;
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let extent = rest[..digits].parse().map_err(|_| self.unexpected("an extent"))?;
            // Python 2 wrote long integers with an L.
            self.rest = rest[digits..].trim_start_matches('L');
            extents.push(extent);
            if extents.len() > RANK_LIMIT {
                return Err(format!("the shape has more than {RANK_LIMIT} axes"));
            }
            if !self.accept(",") {
                self.expect(")")?;
                break;
            }
        }
        Ok(extents)
    }
}

#[cfg(test)]
mod tests;
