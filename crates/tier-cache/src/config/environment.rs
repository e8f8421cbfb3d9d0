//! Which variables of the environment are options, which only look like one, and which are not ours.

use super::ConfigError;
use super::names::{self, Section};

/// What the name of every variable of ours begins with.
pub(super) const PREFIX: &str = "SESSION_";

/// What the example and `sessions` read beside the root key itself, while it is rotated. A slip in one
/// of them would log everybody out.
const ROOT_KEYS: [&str; 3] = [
    "SESSION_KEY_NEXT",
    "SESSION_KEY_RETIRED",
    "SESSION_KEY_LEAKED",
];

/// What a variable is to the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Variable {
    /// It gives an option its value.
    Option,
    /// It looks like an option, and is none: why, and what to do.
    Misspelt(String),
    /// It begins like ours, and is somebody else's: `SESSION_MANAGER`, `SESSION_SECRET`.
    Foreign,
    /// It has nothing to do with us.
    Unrelated,
}

/// Refuses variables that look like an option and are none, and tells of the others that begin like
/// one. Values are neither read nor shown.
///
/// # Errors
///
/// [`ConfigError`] names each variable and the name that is meant.
pub(super) fn check(variables: impl Iterator<Item = String>) -> Result<(), ConfigError> {
    let sections = names::sections();
    let (mut misspelt, mut foreign) = (Vec::new(), Vec::new());
    for name in variables {
        match judge(&name, &sections) {
            Variable::Option | Variable::Unrelated => {}
            Variable::Misspelt(why) => misspelt.push(why),
            Variable::Foreign => foreign.push(name),
        }
    }
    foreign.sort();
    if !foreign.is_empty() {
        let variables = foreign.join(", ");
        tracing::debug!(
            variables,
            "variables that begin like ours and are no options"
        );
    }
    misspelt.sort();
    match misspelt.is_empty() {
        true => Ok(()),
        false => Err(ConfigError(misspelt.join("; "))),
    }
}

/// Whether a variable of this name, without [`PREFIX`], gives an option its value. A key may have
/// parts, as `promotion__uses__count` does.
pub(super) fn is_option(rest: &str, sections: &[Section]) -> bool {
    let rest = rest.to_ascii_lowercase();
    let mut parts = rest.split("__");
    let (section, key) = (parts.next().unwrap_or_default(), parts.next());
    let keys = sections.iter().find(|(name, _)| *name == section);
    keys.zip(key)
        .is_some_and(|((_, keys), key)| keys.contains(&key))
}

/// Judges a variable by its name. Names are read in any case.
fn judge(name: &str, sections: &[Section]) -> Variable {
    let upper = name.trim().to_ascii_uppercase();
    let rest = upper.strip_prefix(PREFIX).map(str::to_ascii_lowercase);
    if rest
        .as_deref()
        .is_some_and(|rest| is_option(rest, sections))
    {
        return Variable::Option;
    }
    if let Some(meant) = meant(&upper, sections) {
        return Variable::Misspelt(format!("{name} is not read: {meant} is meant"));
    }
    let Some(rest) = rest else {
        return Variable::Unrelated;
    };
    if let Some((section, keys)) = section_of(&rest, sections) {
        let keys = keys.join(", ");
        let form = variable(section, "KEY");
        return Variable::Misspelt(format!(
            "{name} is not read: it names the section [{section}], whose options are written \
             {form}, and KEY is one of {keys}; rename the variable if it is not for the sessions"
        ));
    }
    match without_section(&rest, sections) {
        Some(meant) => Variable::Misspelt(format!(
            "{name} is not read, since it names no section: {meant} is meant; rename the variable \
             if it is not for the sessions"
        )),
        None => Variable::Foreign,
    }
}

/// The variable that is meant by a name that is nearly one: the same letters with other signs between
/// them, or at most two edits away.
fn meant(upper: &str, sections: &[Section]) -> Option<String> {
    let letters = |text: &str| text.replace(|c: char| !c.is_ascii_alphanumeric(), "");
    let ours = |(section, keys): &Section| -> Vec<String> {
        keys.iter().map(|key| variable(section, key)).collect()
    };
    let mut all: Vec<String> = sections.iter().flat_map(ours).collect();
    if ROOT_KEYS.contains(&upper) {
        return None;
    }
    all.extend(ROOT_KEYS.map(str::to_owned));
    let of_name = letters(upper);
    let same = all.iter().find(|meant| letters(meant) == of_name);
    let near = || {
        let distance = |meant: &&String| match meant.len().abs_diff(upper.len()) {
            0..=2 => strsim::osa_distance(meant, upper),
            more => more,
        };
        all.iter()
            .min_by_key(distance)
            .filter(|meant| distance(meant) <= 2)
    };
    same.or_else(near).cloned()
}

/// The section that a name begins with as a word, however the rest is spelt.
fn section_of(rest: &str, sections: &[Section]) -> Option<Section> {
    let mut words = rest.split(|c: char| !c.is_ascii_alphanumeric());
    let first = words.find(|word| !word.is_empty())?;
    sections.iter().copied().find(|(name, _)| *name == first)
}

/// What is meant by a name that is that of a key, of two words or more, without its section. Single
/// words are left to others: `SESSION_URL` may be anything.
fn without_section(rest: &str, sections: &[Section]) -> Option<String> {
    let keys = sections.iter().flat_map(|(_, keys)| keys.iter().copied());
    let key = names::nearest(rest, keys.filter(|key| key.contains('_')))?;
    let of = sections.iter().filter(|(_, keys)| keys.contains(&key));
    let meant: Vec<String> = of.map(|(section, _)| variable(section, key)).collect();
    Some(meant.join(" or "))
}

/// The variable of an option.
pub(super) fn variable(section: &str, key: &str) -> String {
    format!("{PREFIX}{section}__{key}").to_ascii_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(name: &str) -> Variable {
        judge(name, &names::sections())
    }

    #[test]
    fn every_option_has_a_variable_and_every_near_name_is_told_of_it() {
        for (section, keys) in names::sections() {
            assert!(!keys.is_empty(), "{section}");
            for key in keys {
                let name = variable(section, key);
                assert_eq!(judged(&name), Variable::Option, "{name}");
                assert_eq!(judged(&name.to_lowercase()), Variable::Option, "{name}");
                let mut near = vec![
                    name.replace("__", "_"),
                    name.replace("__", "___"),
                    name.replace("__", ""),
                    name.replace("__", "."),
                    name.replace("__", "-"),
                    name.replacen('_', "__", 1),
                    name.replacen("SESSION_", "SESSIONS_", 1),
                    format!("{name}_"),
                    format!("{name}XY"),
                ];
                // Each letter left out, doubled, or swapped with the next.
                for at in 0..name.len() {
                    let (before, after) = name.split_at(at);
                    near.push(format!("{before}{}", &after[1..]));
                    near.push(format!("{before}X{after}"));
                    let mut swapped: Vec<char> = name.chars().collect();
                    swapped.swap(at, (at + 1) % name.len());
                    near.push(swapped.into_iter().collect());
                }
                for near in near {
                    match judged(&near) {
                        Variable::Option => {}
                        Variable::Misspelt(why) => {
                            let parts = near.contains(&format!("{name}__"));
                            assert!(parts || why.contains("SESSION_"), "{near}: {why}");
                            assert!(why.contains(&near), "{near}: {why}");
                        }
                        passed => panic!("{near} is {passed:?}, and {name} is meant"),
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_meant_is_named() {
        for (name, meant) in [
            (
                "SESSION_FENCE_STALENESS_BOUND",
                "SESSION_FENCE__STALENESS_BOUND",
            ),
            ("SESSION_COLD_URL", "SESSION_COLD__URL"),
            ("session_cold_url", "SESSION_COLD__URL"),
            ("SESSION__COLD__URL", "SESSION_COLD__URL"),
            ("SESSIONS_COLD__URL", "SESSION_COLD__URL"),
            (
                "SESSION_FENSE__STALENES_BOUND",
                "SESSION_FENCE__STALENESS_BOUND",
            ),
            ("SESSION_COLD__POOLSIZE", "SESSION_COLD__POOL_SIZE"),
            ("SESSION_SESSION_IDLE_TTL", "SESSION_SESSION__IDLE_TTL"),
            ("SESSION_IDLE_TTL", "SESSION_SESSION__IDLE_TTL"),
            (
                "SESSION_CA_FILE",
                "SESSION_WARM__CA_FILE or SESSION_COLD__CA_FILE",
            ),
            ("SESSION_KEY_RETIERED", "SESSION_KEY_RETIRED"),
            ("SESSION_KEY__NEXT", "SESSION_KEY_NEXT"),
            ("SESSION_COLD", "SESSION_COLD__KEY"),
            ("SESSION_WARM_REDIS", "SESSION_WARM__KEY"),
            ("SESSION_HOT__SIZE", "capacity, ttl"),
        ] {
            let Variable::Misspelt(why) = judged(name) else {
                panic!("{name} passes");
            };
            assert!(why.contains(name) && why.contains(meant), "{why}");
        }
    }

    #[test]
    fn what_others_name_so_passes() {
        for name in [
            "SESSION_KEY",
            "SESSION_KEY_NEXT",
            "SESSION_KEY_RETIRED",
            "SESSION_KEY_LEAKED",
            "SESSION_KEY_OLD",
            "SESSION_KEY_FILE",
            "SESSION_OLD_KEYS",
            "SESSION_MANAGER",
            "SESSION_SECRET",
            "SESSION_SECRET_KEY",
            "SESSION_ID",
            "SESSION_URL",
            "SESSION_TTL",
            "SESSION_TTY",
            "SESSION_NAME",
            "SESSION_TIMEOUT",
            "SESSION_MAX_AGE",
            "SESSION_DRIVER",
            "SESSION_LIFETIME",
            "SESSION_CONNECTION",
            "SESSION_COOKIE",
            "SESSION_COOKIE_NAME",
            "SESSION_COOKIE_SECURE",
            "SESSION_DOMAIN",
            "SESSION_STORE",
            "SESSION_PATH",
            "SESSION_SAME_SITE",
            "SESSION_DATABASE__URL",
            "SESSION_BUS_ADDRESS",
        ] {
            assert_eq!(judged(name), Variable::Foreign, "{name}");
        }
        for name in [
            "PATH",
            "DATABASE_URL",
            "XDG_SESSION_TYPE",
            "SESSION",
            "SESSIONNAME",
        ] {
            assert_eq!(judged(name), Variable::Unrelated, "{name}");
        }
    }
}
