//! Whether an app image may be put on top of a run image.
//!
//! What is compared follows from the Platform API at which the app image was exported: the target from 0.12 on, which
//! `-force` overrides, before that stack and mixins, which nothing does.

use std::collections::BTreeSet;

use lifecycle_launch::console::chain;
use log::warn;
use platform_spec::api::image_has_target;
use platform_spec::label::{REBASABLE, STACK_ID, STACK_MIXINS};
use platform_spec::target::Target;
use platform_spec::text::from_json;

use super::{App, Base, RebaseError, Rules};
use crate::image::{Config, describe_platform};
use crate::target;

impl Rules {
    /// An error that `-force` makes a warning.
    pub(super) fn unless_forced(self, error: RebaseError) -> Result<(), RebaseError> {
        if self.force {
            warn!("Rebasing all the same: {}", chain(&error));
            return Ok(());
        }
        Err(error)
    }
}

pub(super) fn check(rules: Rules, app: &App, base: &Base) -> Result<(), RebaseError> {
    let exported_at = app.image.config.env_var("CNB_PLATFORM_API").unwrap_or_default();
    let has_target =
        image_has_target(exported_at).map_err(|cause| RebaseError::Api { name: app.name.clone(), cause })?;
    if has_target {
        check_target(rules, &app.image.config, &base.image.config)
    } else {
        check_stack(app, base)?;
        check_mixins(app, base)
    }
}

fn check_target(rules: Rules, app: &Config, base: &Config) -> Result<(), RebaseError> {
    if app.label(REBASABLE) == Some("false") {
        rules.unless_forced(RebaseError::NotRebasable)?;
    }
    let (old, new) = (target::stated(app), target::stated(base));
    if suits(&old, &new) {
        return Ok(());
    }
    rules.unless_forced(RebaseError::OtherTarget { new: describe(&new), old: describe(&old) })
}

/// Whether what ran on `old` runs on `new`. A variant and a distribution count where the run image states them.
fn suits(old: &Target, new: &Target) -> bool {
    if !old.platform().selects(&new.platform()) {
        return false;
    }
    let Some(new) = &new.distro else { return true };
    let Some(old) = &old.distro else { return false };
    [(&old.name, &new.name), (&old.version, &new.version)].iter().all(|(old, new)| new.is_empty() || old == new)
}

fn describe(target: &Target) -> String {
    let platform = describe_platform(target);
    match &target.distro {
        None => platform,
        Some(distro) => format!("{platform} ({})", [&*distro.name, &*distro.version].join(" ").trim()),
    }
}

fn check_stack(app: &App, base: &Base) -> Result<(), RebaseError> {
    let stack = |name: &str, config: &Config| match config.label(STACK_ID) {
        None | Some("") => Err(RebaseError::NoStack(name.to_owned())),
        Some(stack) => Ok(stack.to_owned()),
    };
    let old = stack(&app.name, &app.image.config)?;
    let new = stack(&base.name, &base.image.config)?;
    if old == new { Ok(()) } else { Err(RebaseError::Stack { new, old }) }
}

fn check_mixins(app: &App, base: &Base) -> Result<(), RebaseError> {
    let old = mixins(&app.name, &app.image.config)?;
    let new = mixins(&base.name, &base.image.config)?;
    let missing: Vec<String> = old.difference(&new).cloned().collect();
    if missing.is_empty() { Ok(()) } else { Err(RebaseError::Mixins(missing)) }
}

/// The mixins of an image, without the stage that they are for (`run:`).
fn mixins(name: &str, config: &Config) -> Result<BTreeSet<String>, RebaseError> {
    let text = config.label(STACK_MIXINS).unwrap_or_default();
    if text.is_empty() {
        return Ok(BTreeSet::new());
    }
    let mixins: Option<Vec<String>> = from_json(text).map_err(|cause| RebaseError::Label {
        name: name.to_owned(),
        label: STACK_MIXINS,
        cause: Box::new(cause),
    })?;
    let plain = |mixin: &String| mixin.split_once(':').map_or(mixin.as_str(), |(_, rest)| rest).to_owned();
    Ok(mixins.iter().flatten().map(plain).collect())
}
