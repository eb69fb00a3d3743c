//! A plugin of qcc with one pass and one file of rewrite rules.

mod merge_pads;

qcc_passes::declare_plugin! {
    name: "example",
    register: |registry| {
        registry.register(merge_pads::INFO)?;
        registry.register_rules(
            "simplify-negations",
            "removes negations that undo each other",
            include_str!("negations.rules"),
        )
    },
}
