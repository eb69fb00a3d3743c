//! stub
#![allow(missing_docs)]
use qcc_ir::{ScaleType, Storage};
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Weight,
    Activation,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    Tensor,
    Channel,
    Token,
    Block(u32),
}
#[derive(Clone, Debug)]
pub struct Format {
    storage: Option<Storage>,
    sharing: Sharing,
    asym: bool,
    full: bool,
    scale: ScaleType,
    dynamic: bool,
}
impl Format {
    pub fn parse(text: &str, role: Role) -> Result<Format, String> {
        let mut parts = text.split(':');
        let name = parts.next().unwrap_or("");
        let storage = Storage::from_name(name);
        if storage.is_none() && name != "f32" {
            return Err(format!("unknown format {name}"));
        }
        let mut f = Format {
            storage,
            sharing: if role == Role::Weight { Sharing::Channel } else { Sharing::Tensor },
            asym: false,
            full: false,
            scale: ScaleType::F32,
            dynamic: false,
        };
        for p in parts {
            match p {
                "tensor" => f.sharing = Sharing::Tensor,
                "channel" => f.sharing = Sharing::Channel,
                "token" => f.sharing = Sharing::Token,
                "asym" => f.asym = true,
                "full" => f.full = true,
                "dynamic" => f.dynamic = true,
                "static" => f.dynamic = false,
                "scale=f16" => f.scale = ScaleType::F16,
                b => {
                    f.sharing =
                        Sharing::Block(b.strip_prefix("block=").and_then(|n| n.parse().ok()).ok_or("bad")?);
                    f.scale = ScaleType::F16
                }
            }
        }
        Ok(f)
    }
    pub fn is_float(&self) -> bool {
        self.storage.is_none()
    }
    pub fn check_executable(&self) -> Result<(), String> {
        match self.storage {
            Some(Storage::Int(_) | Storage::UInt(_)) => Ok(()),
            _ => Err("not executable".into()),
        }
    }
    pub fn granularity(&self) -> Sharing {
        self.sharing
    }
    pub fn asymmetric(&self) -> bool {
        self.asym
    }
    pub fn storage(&self) -> Storage {
        self.storage.unwrap()
    }
    pub fn scale(&self) -> ScaleType {
        self.scale
    }
    pub fn narrow(&self) -> bool {
        !self.full && !self.asym
    }
    pub fn dynamic(&self) -> bool {
        self.dynamic
    }
}
