//! Placeholder.
use qcc_ir::Module;
use qcc_passes::{Context, Outcome, Pass, PassError, PassInfo, Preservation};
/// The registry entry.
pub const INFO: PassInfo = PassInfo { name: "legalize", summary: "", options: &[], make: |_| Ok(Box::new(Legalize)) };
struct Legalize;
impl Pass for Legalize {
    fn preservation(&self) -> Preservation { Preservation::Relative(1e-9) }
    fn run(&self, _: &mut Module, _: &mut Context<'_>) -> Result<Outcome, PassError> { Ok(Outcome::default()) }
}
