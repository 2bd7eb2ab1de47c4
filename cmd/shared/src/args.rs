//! What a person or a platform typed: one field a flag, nothing resolved.
//!
//! [`crate::grammar`] reads the words, clap makes values of them and writes the help, both from the one table
//! [`platform_spec::input::FLAGS`].

use std::ffi::OsString;

use clap::builder::{OsStringValueParser, StyledStr};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use platform_spec::api::PlatformApi;
use platform_spec::input::{Flag, Phase, Takes, flags};

use crate::grammar::{GrammarError, rewrite};

/// The flags given, and the arguments that are none. A flag that was not given is `None` or empty.
#[derive(Debug, Default)]
pub(crate) struct Args {
    pub(crate) analyzed: Option<OsString>,
    pub(crate) app: Option<OsString>,
    pub(crate) build_config: Option<OsString>,
    pub(crate) build_image: Option<OsString>,
    pub(crate) buildpacks: Option<OsString>,
    pub(crate) cache_dir: Option<OsString>,
    pub(crate) cache_image: Option<OsString>,
    pub(crate) daemon: Option<bool>,
    pub(crate) extended: Option<OsString>,
    pub(crate) extensions: Option<OsString>,
    pub(crate) force: Option<bool>,
    pub(crate) generated: Option<OsString>,
    pub(crate) gid: Option<i64>,
    pub(crate) group: Option<OsString>,
    pub(crate) image: Option<OsString>,
    pub(crate) index: Option<OsString>,
    pub(crate) index_report: Option<OsString>,
    pub(crate) insecure_registry: Vec<OsString>,
    pub(crate) launch_cache: Option<OsString>,
    pub(crate) launcher: Option<OsString>,
    pub(crate) launcher_sbom: Option<OsString>,
    pub(crate) layers: Option<OsString>,
    pub(crate) layout: Option<bool>,
    pub(crate) layout_dir: Option<OsString>,
    pub(crate) log_level: Option<OsString>,
    pub(crate) no_color: Option<bool>,
    pub(crate) order: Option<OsString>,
    pub(crate) parallel: Option<bool>,
    pub(crate) plan: Option<OsString>,
    pub(crate) platform: Option<OsString>,
    pub(crate) previous_image: Option<OsString>,
    pub(crate) process_type: Option<OsString>,
    pub(crate) project_metadata: Option<OsString>,
    /// More than one only for the indexer.
    pub(crate) report: Vec<OsString>,
    pub(crate) run: Option<OsString>,
    pub(crate) run_image: Option<OsString>,
    pub(crate) skip_layers: Option<bool>,
    pub(crate) skip_restore: Option<bool>,
    pub(crate) stack: Option<OsString>,
    pub(crate) system: Option<OsString>,
    pub(crate) tag: Vec<OsString>,
    pub(crate) target_arch: Option<OsString>,
    pub(crate) uid: Option<i64>,
    pub(crate) version: Option<bool>,
    pub(crate) positional: Vec<OsString>,
}

/// Reads the words after the executable's name.
pub(crate) fn parse(
    words: impl IntoIterator<Item = OsString>,
    phase: Phase,
    api: PlatformApi,
) -> Result<Args, GrammarError> {
    let defined: Vec<_> = flags(phase, api).collect();
    let rewritten = rewrite(words, &defined)?;
    // Every word is now `--name=value` of a defined flag with a checked value: clap finds nothing to complain of.
    let matches = command(phase, &defined).no_binary_name(true).try_get_matches_from(rewritten.flags);
    let matches = matches.expect("clap takes what the grammar wrote");
    let mut args = take(Given { matches, left: defined });
    args.positional = rewritten.positional;
    Ok(args)
}

/// The page for `-help`, and for a line that cannot be read.
pub(crate) fn help(phase: Phase, api: PlatformApi) -> StyledStr {
    let defined: Vec<_> = flags(phase, api).collect();
    let arguments = match phase {
        Phase::Analyze | Phase::Create => " <image>",
        Phase::Export | Phase::Rebase => " <image> [<tag>...]",
        Phase::Index => " <image> [<image by digest>...]",
        Phase::Detect | Phase::Restore | Phase::Extend | Phase::Build => "",
    };
    command(phase, &defined)
        .override_usage(format!("{} [-<flag> <value>]...{arguments}", phase.executable()))
        .render_help()
}

/// What a flag is for, the variable that stands for it, and what counts without either.
fn explain(flag: &Flag, phase: Phase) -> String {
    let mut text = flag.help(phase).to_owned();
    if let Some(variable) = flag.variable {
        text.push_str(&format!(" [${variable}]"));
    }
    if let Some(default) = flag.default {
        text.push_str(&format!(" (default {default:?})"));
    }
    text
}

fn command(phase: Phase, defined: &[&'static Flag]) -> Command {
    let command = Command::new(phase.executable()).disable_help_flag(true).args_override_self(true);
    let command = command.help_template("Usage: {usage}\n\nFlags:\n{options}\n");
    command.args(defined.iter().map(|flag| {
        let arg = Arg::new(flag.name).long(flag.name).help(explain(flag, phase));
        match flag.takes {
            Takes::Text => arg.action(ArgAction::Set).value_parser(OsStringValueParser::new()).value_name("text"),
            Takes::List => {
                arg.action(ArgAction::Append).value_parser(OsStringValueParser::new()).value_name("text, repeatable")
            }
            Takes::Integer => arg
                .action(ArgAction::Set)
                .value_parser(value_parser!(i64))
                .allow_negative_numbers(true)
                .value_name("number"),
            Takes::Bool => arg
                .action(ArgAction::Set)
                .value_parser(value_parser!(bool))
                .num_args(0..=1)
                .require_equals(true)
                .hide_possible_values(true)
                .value_name("true|false"),
        }
    }))
}

/// The values that clap made, and the flags whose values nobody has taken yet.
struct Given {
    matches: ArgMatches,
    left: Vec<&'static Flag>,
}

impl Given {
    fn one<T: Clone + Send + Sync + 'static>(&mut self, name: &str) -> Option<T> {
        let defined = self.left.len();
        self.left.retain(|flag| flag.name != name);
        if self.left.len() == defined { None } else { self.matches.remove_one(name) }
    }

    fn many(&mut self, name: &str) -> Vec<OsString> {
        let defined = self.left.len();
        self.left.retain(|flag| flag.name != name);
        if self.left.len() == defined {
            return Vec::new();
        }
        self.matches.remove_many(name).map(Iterator::collect).unwrap_or_default()
    }
}

fn take(mut given: Given) -> Args {
    let args = Args {
        analyzed: given.one("analyzed"),
        app: given.one("app"),
        build_config: given.one("build-config"),
        build_image: given.one("build-image"),
        buildpacks: given.one("buildpacks"),
        cache_dir: given.one("cache-dir"),
        cache_image: given.one("cache-image"),
        daemon: given.one("daemon"),
        extended: given.one("extended"),
        extensions: given.one("extensions"),
        force: given.one("force"),
        generated: given.one("generated"),
        gid: given.one("gid"),
        group: given.one("group"),
        image: given.one("image"),
        index: given.one("index"),
        index_report: given.one("index-report"),
        insecure_registry: given.many("insecure-registry"),
        launch_cache: given.one("launch-cache"),
        launcher: given.one("launcher"),
        launcher_sbom: given.one("launcher-sbom"),
        layers: given.one("layers"),
        layout: given.one("layout"),
        layout_dir: given.one("layout-dir"),
        log_level: given.one("log-level"),
        no_color: given.one("no-color"),
        order: given.one("order"),
        parallel: given.one("parallel"),
        plan: given.one("plan"),
        platform: given.one("platform"),
        previous_image: given.one("previous-image"),
        process_type: given.one("process-type"),
        project_metadata: given.one("project-metadata"),
        report: given.many("report"),
        run: given.one("run"),
        run_image: given.one("run-image"),
        skip_layers: given.one("skip-layers"),
        skip_restore: given.one("skip-restore"),
        stack: given.one("stack"),
        system: given.one("system"),
        tag: given.many("tag"),
        target_arch: given.one("target-arch"),
        uid: given.one("uid"),
        version: given.one("version"),
        positional: Vec::new(),
    };
    debug_assert!(given.left.is_empty(), "flags without a field: {:?}", given.left);
    args
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(phase: Phase, api: &str, line: &[&str]) -> Args {
        let api = PlatformApi::parse(Some(api)).expect("supported");
        parse(line.iter().map(OsString::from), phase, api).expect("a line that can be read")
    }

    #[test]
    fn every_flag_of_every_phase_has_a_field() {
        // `take` asserts that nothing was left.
        for phase in Phase::ALL {
            for api in platform_spec::api::PLATFORM {
                parsed(phase, &api.to_string(), &[]);
            }
        }
    }

    #[test]
    fn values_arrive_and_the_last_counts() {
        let line =
            ["-app", "a", "--app=b", "-uid=-1", "-parallel=0", "-parallel", "-tag=", "-tag", "--x", "-layers=", "img"];
        let args = parsed(Phase::Create, "0.15", &line);
        assert_eq!(args.app, Some("b".into()));
        assert_eq!(args.uid, Some(-1));
        assert_eq!(args.parallel, Some(true));
        assert_eq!(args.tag, ["", "--x"]);
        assert_eq!(args.layers, Some("".into()), "an empty value is a value");
        assert_eq!((args.gid, args.daemon, args.order), (None, None, None));
        assert_eq!(args.positional, ["img"]);
    }

    #[test]
    fn help_names_each_flag_of_this_api_only() {
        let page = |api| help(Phase::Analyze, PlatformApi::parse(Some(api)).expect("supported")).to_string();
        assert!(
            page("0.12").starts_with("Usage: analyzer [-<flag> <value>]... <image>\n\nFlags:\n"),
            "{}",
            page("0.12")
        );
        assert!(page("0.12").contains("--layout-dir <text>"), "{}", page("0.12"));
        let explained = r#"path to analyzed.toml [$CNB_ANALYZED_PATH] (default "<layers>/analyzed.toml")"#;
        assert!(page("0.12").contains(explained), "{}", page("0.12"));
        assert!(page("0.12").contains("do not restore the SBOM files"), "{}", page("0.12"));
        assert!(page("0.11").contains("--stack <text>") && !page("0.11").contains("layout"));
    }
}
