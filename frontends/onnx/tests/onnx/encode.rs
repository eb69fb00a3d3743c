//! Protobuf bytes of small models, written field by field: what a test says is in the file is all that is in it.

/// A message in the making.
#[derive(Clone, Default)]
pub struct Message(Vec<u8>);

impl Message {
    /// A varint field.
    pub fn number(mut self, tag: u64, value: u64) -> Message {
        self.varint(tag << 3);
        self.varint(value);
        self
    }

    /// A field of bytes, text or a message.
    pub fn bytes(mut self, tag: u64, value: impl AsRef<[u8]>) -> Message {
        self.varint(tag << 3 | 2);
        self.varint(value.as_ref().len() as u64);
        self.0.extend_from_slice(value.as_ref());
        self
    }

    /// The bytes.
    pub fn finish(self) -> Vec<u8> {
        self.0
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

impl AsRef<[u8]> for Message {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// A model of these graph fields, with opset `version`.
pub fn model(version: u64, graph: Message) -> Vec<u8> {
    let opset = Message::default().bytes(1, "").number(2, version);
    Message::default().number(1, 8).bytes(7, graph).bytes(8, opset).finish()
}

/// An input or output: a `ValueInfoProto` of f32 `[2, n]`, where `n` is a symbol.
pub fn value(name: &str) -> Message {
    let shape = Message::default()
        .bytes(1, Message::default().number(1, 2))
        .bytes(1, Message::default().bytes(2, "n"));
    let tensor = Message::default().number(1, 1).bytes(2, shape);
    Message::default().bytes(1, name).bytes(2, Message::default().bytes(1, tensor))
}

/// A node.
pub fn node(op_type: &str, inputs: &[&str], output: &str) -> Message {
    let inputs = inputs.iter().fold(Message::default(), |m, input| m.bytes(1, input));
    inputs.bytes(2, output).bytes(3, format!("{output} node")).bytes(4, op_type)
}

/// An f32 initialiser `[2]` in another file.
pub fn external(name: &str, location: &str) -> Message {
    let entry = Message::default().bytes(1, "location").bytes(2, location);
    Message::default().number(1, 2).number(2, 1).bytes(8, name).bytes(13, entry).number(14, 1)
}

/// An input or output of an element type by its number in `TensorProto.DataType`: some symbolic sizes, then some known ones.
pub fn tensor(name: &str, element: u64, symbols: &[&str], sizes: &[u64]) -> Message {
    let shape = symbols.iter().fold(Message::default(), |m, s| m.bytes(1, Message::default().bytes(2, s)));
    let shape = sizes.iter().fold(shape, |m, n| m.bytes(1, Message::default().number(1, *n)));
    let tensor = Message::default().number(1, element).bytes(2, shape);
    Message::default().bytes(1, name).bytes(2, Message::default().bytes(1, tensor))
}

/// An f32 initialiser.
pub fn initializer(name: &str, dims: &[usize], values: &[f32]) -> Message {
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let tensor = dims.iter().fold(Message::default(), |m, d| m.number(1, *d as u64));
    tensor.number(2, 1).bytes(8, name).bytes(9, bytes)
}

/// An attribute of whole numbers.
pub fn ints(name: &str, values: &[u64]) -> Message {
    values.iter().fold(Message::default().bytes(1, name), |m, v| m.number(8, *v)).number(20, 7)
}
