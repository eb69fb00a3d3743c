//! What a model's entry points take and give, for callers that do not know the model.

use std::ffi::{CStr, CString, c_char};

use qcc_runtime::Element;
use qcc_runtime::program::{Entry, Expr, Port};

use crate::failure::{guarded, reference, text};
use crate::{EntryNames, ModelHandle};

/// What an out-of-range index into a list is reported as.
fn at<'a, T>(items: &'a [T], index: i32, what: &str) -> Result<&'a T, String> {
    let item = usize::try_from(index).ok().and_then(|i| items.get(i));
    item.ok_or_else(|| format!("there is no {what} {index}; there are {}", items.len()))
}

/// # Safety
/// `model` is null or an open model, `entry` null or a C string, both living as long as the references.
unsafe fn entry<'a>(
    model: *const ModelHandle,
    entry: *const c_char,
) -> Result<(&'a ModelHandle, &'a Entry, &'a EntryNames), String> {
    // SAFETY: as the caller promises.
    let (model, name) = unsafe { (reference(model, "model")?, text(entry, "entry")?) };
    let found = model.model.entry(name).map_err(|e| e.to_string())?;
    let names = model.entries.iter().find(|e| e.name.as_bytes() == name.as_bytes());
    Ok((model, found, names.ok_or("the entry point has no name")?))
}

fn element(port: &Port) -> Result<i32, String> {
    Ok(Element::named(&port.element).ok_or("unknown element type")? as i32)
}

fn dim(port: &Port, axis: i32) -> Result<i64, String> {
    match at(&port.dims, axis, "dimension")? {
        Expr::Const(n) => i64::try_from(*n).map_err(|_| "the size overflows".into()),
        _ => Ok(-1),
    }
}

fn symbol<'a>(model: &'a ModelHandle, port: &Port, axis: i32) -> Result<&'a CStr, String> {
    match at(&port.dims, axis, "dimension")? {
        Expr::Symbol(s) => {
            model.symbols.get(*s as usize).map(CString::as_c_str).ok_or_else(|| "unknown symbol".into())
        }
        _ => Err(format!("dimension {axis} of `{}` has no symbol", port.name)),
    }
}

/// See the header.
///
/// # Safety
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qcc_entry_count(model: *const ModelHandle) -> i32 {
    // SAFETY: the caller passes an open model.
    guarded(-1, || Ok(unsafe { reference(model, "model") }?.entries.len() as i32))
}

/// See the header.
///
/// # Safety
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qcc_entry_name(model: *const ModelHandle, index: i32) -> *const c_char {
    // SAFETY: the caller passes an open model.
    let name = || Ok(at(&unsafe { reference(model, "model") }?.entries, index, "entry point")?.name.as_ptr());
    guarded(std::ptr::null(), name)
}

/// The same five questions about inputs and outputs.
macro_rules! ports {
    ($ports:ident, $what:literal, $count:ident, $name:ident, $element:ident, $rank:ident, $dim:ident) => {
        /// See the header.
        ///
        /// # Safety
        /// As the header says.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $count(model: *const ModelHandle, name: *const c_char) -> i32 {
            // SAFETY: the caller passes an open model and a C string.
            guarded(-1, || Ok(unsafe { entry(model, name) }?.1.$ports.len() as i32))
        }

        /// See the header.
        ///
        /// # Safety
        /// As the header says.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(
            model: *const ModelHandle,
            name: *const c_char,
            index: i32,
        ) -> *const c_char {
            // SAFETY: the caller passes an open model and a C string.
            guarded(std::ptr::null(), || {
                Ok(at(&unsafe { entry(model, name) }?.2.$ports, index, $what)?.as_ptr())
            })
        }

        /// See the header.
        ///
        /// # Safety
        /// As the header says.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $element(model: *const ModelHandle, name: *const c_char, index: i32) -> i32 {
            // SAFETY: the caller passes an open model and a C string.
            guarded(-1, || element(at(&unsafe { entry(model, name) }?.1.$ports, index, $what)?))
        }

        /// See the header.
        ///
        /// # Safety
        /// As the header says.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $rank(model: *const ModelHandle, name: *const c_char, index: i32) -> i32 {
            // SAFETY: the caller passes an open model and a C string.
            guarded(-1, || Ok(at(&unsafe { entry(model, name) }?.1.$ports, index, $what)?.dims.len() as i32))
        }

        /// See the header.
        ///
        /// # Safety
        /// As the header says.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $dim(
            model: *const ModelHandle,
            name: *const c_char,
            index: i32,
            axis: i32,
        ) -> i64 {
            // SAFETY: the caller passes an open model and a C string.
            guarded(-2, || dim(at(&unsafe { entry(model, name) }?.1.$ports, index, $what)?, axis))
        }
    };
}

ports!(inputs, "input", qcc_input_count, qcc_input_name, qcc_input_element, qcc_input_rank, qcc_input_dim);
ports!(
    outputs,
    "output",
    qcc_output_count,
    qcc_output_name,
    qcc_output_element,
    qcc_output_rank,
    qcc_output_dim
);

/// See the header.
///
/// # Safety
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qcc_input_symbol(
    model: *const ModelHandle,
    name: *const c_char,
    index: i32,
    axis: i32,
) -> *const c_char {
    guarded(std::ptr::null(), || {
        // SAFETY: the caller passes an open model and a C string.
        let (model, entry, _) = unsafe { entry(model, name) }?;
        Ok(symbol(model, at(&entry.inputs, index, "input")?, axis)?.as_ptr())
    })
}
