//! `--PASS` and `--PASS="option=value …"`: passes given one by one, run in the order given, as `mlir-opt` has them.

use clap::{Arg, ArgAction, ArgGroup, ArgMatches, Command, Error, FromArgMatches, Id};
use qcc_passes::Registry;

/// The passes given by flags of their own, in order: name and options.
#[derive(Debug, Default)]
pub struct Shorthands {
    steps: Vec<(&'static str, String)>,
}

impl Shorthands {
    /// The argument group of all of them.
    pub const GROUP: &'static str = "shorthands";

    /// The same as the text of a pipeline.
    pub fn pipeline(&self) -> String {
        let step = |(name, options): &(&str, String)| match options.is_empty() {
            true => (*name).to_string(),
            false => format!("{name}{{{options}}}"),
        };
        self.steps.iter().map(step).collect::<Vec<_>>().join(",")
    }
}

impl clap::Args for Shorthands {
    fn group_id() -> Option<Id> {
        Some(Self::GROUP.into())
    }

    fn augment_args(command: Command) -> Command {
        let registry = Registry::builtin();
        let flags = registry.passes().iter().map(|pass| {
            let options: Vec<_> =
                pass.options.iter().map(|(name, meaning)| format!("{name}: {meaning}")).collect();
            Arg::new(pass.name)
                .long(pass.name)
                .value_name("OPTIONS")
                .help(format!("Pass: {}", pass.summary))
                .long_help(format!("Pass: {}\n{}", pass.summary, options.join("\n")))
                .help_heading("Passes")
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("")
                .action(ArgAction::Append)
        });
        let names: Vec<&str> = registry.passes().iter().map(|pass| pass.name).collect();
        command.args(flags).group(ArgGroup::new(Self::GROUP).args(names).multiple(true))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Shorthands {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Shorthands, Error> {
        let mut steps = Vec::new();
        for pass in Registry::builtin().passes() {
            let indices = matches.indices_of(pass.name).into_iter().flatten();
            let options = matches.get_many::<String>(pass.name).into_iter().flatten();
            steps.extend(indices.zip(options).map(|(at, options)| (at, pass.name, options.clone())));
        }
        steps.sort_by_key(|(at, ..)| *at);
        Ok(Shorthands { steps: steps.into_iter().map(|(_, name, options)| (name, options)).collect() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Shorthands::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Args;

    use super::*;

    fn pipeline(args: &[&str]) -> Result<String, Error> {
        let command = Shorthands::augment_args(Command::new("opt"));
        let matches = command.try_get_matches_from(args)?;
        Ok(Shorthands::from_arg_matches(&matches)?.pipeline())
    }

    #[test]
    fn flags_keep_their_order_and_options() {
        let args = ["opt", "--quantize=weights=int8:channel range=-1..1", "--canonicalize", "--plan-memory"];
        let text = pipeline(&args).expect("passes of this build");
        assert_eq!(text, "quantize{weights=int8:channel range=-1..1},canonicalize,plan-memory");
        assert_eq!(
            pipeline(&["opt", "--canonicalize", "--canonicalize"]).expect("twice"),
            "canonicalize,canonicalize"
        );
        assert_eq!(pipeline(&["opt"]).expect("none"), "");
        assert!(pipeline(&["opt", "--canonicalise"]).is_err());
    }
}
