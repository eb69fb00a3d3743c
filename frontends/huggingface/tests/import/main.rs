//! Checkpoints in, modules out: made-up ones of many shapes against a plain reference, trained ones against other people's software, and
//! damaged ones against good manners.

mod checkpoint;
mod hostile;
mod llama;
mod mamba;
mod reference;
mod session;
mod trained;
mod transformed;
mod transforms;
