fn main() {
    for f in std::env::args().skip(1) {
        match qcc_onnx::import(std::path::Path::new(&f)) {
            Ok(m) => { println!("{f}: ok {} params", m.parameters.len());
             qcc_ir::verify::verify(&m.module, Default::default()).unwrap();
             if std::env::var("P").is_ok() { println!("{}", qcc_ir::print::print(&m.module)); } }
            Err(e) => println!("{f}: {e}"),
        }
    }
}
