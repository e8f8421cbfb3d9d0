//! The root key and those beside it, as the service and the operator's command read them.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use testbed::SqliteFile;

use crate::support::{App, Tokens, folder, program, run};

const OLD: &str = "5rXo0PZk3c8vWq1yTnJdLh7sUaBgEfMi";
const NEW: &str = "8Yq0v3JmZk1xT5Wn7RbLd2HsPcGfEaUi";
const OTHERS: [&str; 3] = [
    "SESSION_KEY_NEXT",
    "SESSION_KEY_RETIRED",
    "SESSION_KEY_LEAKED",
];

/// The operator's command, which a run of the whole workspace has built; if it is not there, it is built.
fn sessions() -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_webapp")).with_file_name("sessions");
    if !path.is_file() {
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--package", "sessions-cli"])
            .arg("--target-dir")
            .arg(path.ancestors().nth(2).expect("a target folder"))
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status();
        assert!(built.expect("cargo runs").success(), "{}", path.display());
    }
    path
}

/// What the command says of an access token, with these variables and flags.
fn inspect(
    folder: &Path,
    url: &str,
    tokens: &Tokens,
    env: &[(&str, &str)],
    args: &[&str],
) -> String {
    let input = folder.join("token");
    fs::write(&input, &tokens.access).unwrap();
    let mut command = Command::new(sessions());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SESSION_") {
            command.env_remove(&name);
        }
    }
    command
        .args(["inspect", "-", "--database", url, "--redis", ""])
        .args(args)
        .envs(env.iter().copied())
        .stdin(Stdio::from(File::open(input).unwrap()));
    let output = run(&mut command);
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains(&tokens.id), "{said}");
    said
}

/// What it says where the token's signature is not of the keys that it was given.
const NOT_SIGNED: &str = "its signature is not of this root key";

fn service(folder: &Path, url: &str, env: &[(&str, &str)]) -> App {
    let args = ["--listen", "127.0.0.1:0", "--no-redis", "--database", url];
    App::spawn(program(folder, &args).envs(env.iter().copied()))
}

#[test]
fn other_roots_are_accepted_beside_the_one_in_use() {
    let (folder, file) = (folder(), SqliteFile::create());
    let (folder, url) = (folder.path(), file.url());
    let tokens = service(folder, &url, &[("SESSION_KEY", OLD)]).log_in("ada");
    for other in OTHERS {
        let env = [("SESSION_KEY", NEW), (other, OLD)];
        let app = service(folder, &url, &env);
        assert_eq!(app.tier(&tokens), "cold", "{other}");
        let said = inspect(folder, &url, &tokens, &env, &[]);
        assert!(!said.contains(NOT_SIGNED), "{other}: {said}");
    }
    // An empty variable is none.
    for env in [
        &[("SESSION_KEY", NEW)][..],
        &[("SESSION_KEY", NEW), (OTHERS[1], "")],
    ] {
        service(folder, &url, env).me(&tokens).expect_error(401);
        let said = inspect(folder, &url, &tokens, env, &[]);
        assert!(said.contains(NOT_SIGNED), "{said}");
    }
}

/// As editors, `echo`, Windows and secret stores leave it.
#[test]
fn line_breaks_at_the_end_of_a_key_are_read_by_both_alike() {
    for end in ["", "\n", "\r\n", "\n\n"] {
        let folder = folder();
        let folder = folder.path();
        let key = format!("{OLD}{end}");
        let (database, file) = (folder.join("app.db"), folder.join("app.db.key"));
        fs::write(&file, &key).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let (file, url) = (
            file.to_str().unwrap(),
            format!("sqlite://{}", database.display()),
        );
        // From the file beside the database; then from the variable.
        let tokens = service(folder, &url, &[]).log_in("ada");
        let variable = [("SESSION_KEY", key.as_str())];
        let app = service(folder, &url, &variable);
        assert_eq!(app.tier(&tokens), "cold", "{end:?}");
        for (env, args) in [(&[][..], &["--key-file", file][..]), (&variable, &[])] {
            let said = inspect(folder, &url, &tokens, env, args);
            assert!(!said.contains(NOT_SIGNED), "{end:?}: {said}");
        }
        // All else is a part of the key.
        let spaced = format!("{OLD} {end}");
        let said = inspect(folder, &url, &tokens, &[("SESSION_KEY", &spaced)], &[]);
        assert!(said.contains(NOT_SIGNED), "{end:?}: {said}");
    }
}
