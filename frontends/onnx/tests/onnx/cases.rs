//! Reader of `.cases` files; `tools/onnx-vectors` says how they are laid out.

use qcc_ir::{ElementType, TensorType};
use qcc_params::Tensor;

/// A model of one node, inputs, and the outputs it must have.
pub struct Case {
    pub name: String,
    pub model: Vec<u8>,
    pub inputs: Vec<Tensor>,
    pub outputs: Vec<Tensor>,
}

/// All cases of a file.
pub fn read(file: &[u8]) -> Vec<Case> {
    let mut bytes = Reader(file);
    let mut cases = Vec::new();
    while !bytes.0.is_empty() {
        let name = String::from_utf8(bytes.blob().to_vec()).expect("names are UTF-8");
        cases.push(Case {
            name,
            model: bytes.blob().to_vec(),
            inputs: bytes.tensors(),
            outputs: bytes.tensors(),
        });
    }
    cases
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> &'a [u8] {
        let (head, tail) = self.0.split_at(n);
        self.0 = tail;
        head
    }

    fn number(&mut self) -> u32 {
        u32::from_le_bytes(self.take(4).try_into().expect("four bytes"))
    }

    fn blob(&mut self) -> &'a [u8] {
        let n = self.number() as usize;
        self.take(n)
    }

    fn tensors(&mut self) -> Vec<Tensor> {
        (0..self.number()).map(|_| self.tensor()).collect()
    }

    fn tensor(&mut self) -> Tensor {
        let element = match self.number() {
            1 => ElementType::F32,
            2 => ElementType::U8,
            3 => ElementType::I8,
            6 => ElementType::I32,
            7 => ElementType::I64,
            9 => ElementType::Bool,
            10 => ElementType::F16,
            11 => ElementType::F64,
            16 => ElementType::BF16,
            other => panic!("no type {other} is packed"),
        };
        let rank = self.number();
        let dims: Vec<i64> = (0..rank).map(|_| i64::from(self.number())).collect();
        Tensor::from_le_bytes(&TensorType::new(dims, element), self.blob()).expect("a tensor")
    }
}
