//! `qcc_tensor`: the caller's tensors, checked.

use qcc_runtime::Element;
use qcc_runtime::program::Port;

/// Ranks above this are taken for garbage.
const MAX_RANK: i32 = 16;

/// `struct qcc_tensor`.
#[repr(C)]
pub struct Tensor {
    data: *mut u8,
    shape: *mut i64,
    rank: i32,
    element: i32,
    bytes: usize,
}

/// # Safety
/// `start` is null or points to so many tensors that live as long as the slice.
pub(crate) unsafe fn array<'a>(start: *const Tensor, count: usize) -> Result<&'a [Tensor], String> {
    match (start.is_null(), count) {
        (_, 0) => Ok(&[]),
        (true, _) => Err("inputs is NULL".into()),
        // SAFETY: as the caller promises.
        (false, _) => Ok(unsafe { std::slice::from_raw_parts(start, count) }),
    }
}

/// # Safety
/// `start` is null or points to so many tensors that live as long as the slice, and are used by no one else.
pub(crate) unsafe fn array_mut<'a>(start: *mut Tensor, count: usize) -> Result<&'a mut [Tensor], String> {
    match (start.is_null(), count) {
        (_, 0) => Ok(&mut []),
        (true, _) => Err("outputs is NULL".into()),
        // SAFETY: as the caller promises.
        (false, _) => Ok(unsafe { std::slice::from_raw_parts_mut(start, count) }),
    }
}

/// Errors when an output shares memory with another tensor.
pub(crate) fn check_overlap(inputs: &[Tensor], outputs: &[Tensor]) -> Result<(), String> {
    let overlap = |a: &Tensor, b: &Tensor| {
        let (a, a_end) = (a.data as usize, (a.data as usize).saturating_add(a.bytes));
        let (b, b_end) = (b.data as usize, (b.data as usize).saturating_add(b.bytes));
        a < b_end && b < a_end
    };
    for (i, output) in outputs.iter().enumerate() {
        if let Some(j) = inputs.iter().position(|input| overlap(output, input)) {
            return Err(format!("output {i} overlaps input {j}"));
        }
        if let Some(j) = outputs[..i].iter().position(|other| overlap(output, other)) {
            return Err(format!("output {i} overlaps output {j}"));
        }
    }
    Ok(())
}

impl Tensor {
    /// The shape as sizes.
    ///
    /// # Safety
    /// `shape` is null or points to `rank` sizes.
    pub(crate) unsafe fn shape(&self) -> Result<Vec<u64>, String> {
        if !(0..=MAX_RANK).contains(&self.rank) {
            return Err(format!("rank {} is not within 0 and {MAX_RANK}", self.rank));
        }
        if self.rank == 0 {
            return Ok(Vec::new());
        }
        if self.shape.is_null() {
            return Err("shape is NULL".into());
        }
        // SAFETY: as the caller promises.
        let shape = unsafe { std::slice::from_raw_parts(self.shape, self.rank as usize) };
        shape
            .iter()
            .map(|&n| u64::try_from(n).map_err(|_| format!("shape {shape:?} has a negative size")))
            .collect()
    }

    /// # Safety
    /// `data` is null or points to `bytes` bytes that live as long as the slice.
    pub(crate) unsafe fn data<'a>(&self) -> Result<&'a [u8], String> {
        self.check_data()?;
        if self.bytes == 0 {
            return Ok(&[]);
        }
        // SAFETY: as the caller promises.
        Ok(unsafe { std::slice::from_raw_parts(self.data, self.bytes) })
    }

    /// # Safety
    /// `data` is null or points to `bytes` bytes that live as long as the slice, and are used by no one else.
    pub(crate) unsafe fn data_mut<'a>(&mut self) -> Result<&'a mut [u8], String> {
        self.check_data()?;
        if self.bytes == 0 {
            return Ok(&mut []);
        }
        // SAFETY: as the caller promises.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.data, self.bytes) })
    }

    fn check_data(&self) -> Result<(), String> {
        if self.bytes != 0 && self.data.is_null() {
            return Err(format!("data is NULL where {} bytes are promised", self.bytes));
        }
        if isize::try_from(self.bytes).is_err() {
            return Err(format!("{} bytes are more than the address space holds", self.bytes));
        }
        Ok(())
    }

    pub(crate) fn check_element(&self, port: &Port) -> Result<(), String> {
        let expected = Element::named(&port.element).ok_or("unknown element type")?;
        if self.element == expected as i32 {
            return Ok(());
        }
        let given = usize::try_from(self.element).ok().and_then(|code| Element::ALL.get(code));
        let given = given.map_or_else(|| format!("unknown ({})", self.element), |e| e.name().to_string());
        Err(format!("`{}` has elements of type {}, not {given}", port.name, expected.name()))
    }

    /// Errors when there is a shape to be filled in that has not the output's rank.
    pub(crate) fn check_rank(&self, dims: &[u64]) -> Result<(), String> {
        if !self.shape.is_null() && self.rank as usize != dims.len() {
            return Err(format!("its rank is {}, not {}", dims.len(), self.rank));
        }
        Ok(())
    }

    /// Fills in shape, rank, element type and size of an output.
    ///
    /// # Safety
    /// `shape` is null or has room for the output's rank.
    pub(crate) unsafe fn describe(&mut self, port: &Port, dims: &[u64]) -> Result<(), String> {
        let element = Element::named(&port.element).ok_or("unknown element type")?;
        let bytes = dims
            .iter()
            .try_fold(element.bytes(), |n, d| n.checked_mul(*d))
            .and_then(|n| usize::try_from(n).ok());
        self.bytes = bytes.ok_or_else(|| format!("the size of `{}` overflows", port.name))?;
        self.rank = dims.len() as i32;
        self.element = element as i32;
        if !self.shape.is_null() {
            for (axis, &size) in dims.iter().enumerate() {
                let size = i64::try_from(size).map_err(|_| format!("a size of `{}` overflows", port.name))?;
                // SAFETY: as the caller promises.
                unsafe { *self.shape.add(axis) = size };
            }
        }
        Ok(())
    }
}
