//! Where the API is and as whom to speak: from options, else the environment, else the context, else the local socket.
//!
//! A context's token and CA go to the context's own endpoints only: whoever names another endpoint names its token, too.

use crate::{
    cli::{Consistency, Global},
    exit::Failure,
    settings::{ContextName, Place, Settings},
};
use std::{
    env,
    path::{Path, PathBuf},
};
use waifud_api::client::{Client, Config, Endpoint};

/// Where requests go, and as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// The endpoints, in the order in which they are tried.
    pub(crate) endpoints: Vec<Endpoint>,
    token_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    /// The context they came from, if they came from one.
    pub(crate) context: Option<ContextName>,
    /// The machine that `ssh` goes through, if the context names one.
    pub(crate) jump: Option<String>,
}

/// What of the environment counts here.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment {
    pub(crate) host: Option<String>,
    pub(crate) context: Option<String>,
    pub(crate) token_file: Option<PathBuf>,
    pub(crate) token: Option<String>,
    pub(crate) ca_file: Option<PathBuf>,
}

impl Environment {
    /// An empty variable is as good as none.
    pub(crate) fn read() -> Self {
        let text = |name: &str| env::var(name).ok().filter(|value| !value.trim().is_empty());
        let path = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        Self {
            host: text("WAIFU_HOST"),
            context: text("WAIFU_CONTEXT"),
            token_file: path("WAIFU_TOKEN_FILE"),
            token: text("WAIFU_TOKEN").map(|token| token.trim().to_owned()),
            ca_file: path("WAIFU_CA_FILE"),
        }
    }
}

impl Target {
    /// What the options, the environment and the configuration say, in this order.
    pub(crate) fn of(global: &Global, environment: &Environment, settings: &Settings) -> Result<Self, Failure> {
        let named = |name: &ContextName| settings.place(name).map(|place| Self::at(name, place));
        let listed = |list: &str| {
            let endpoints = Endpoint::parse_list(list).map_err(|e| Failure::Usage(e.to_string()))?;
            Ok(Self { endpoints, token_file: None, ca_file: None, context: None, jump: None })
        };
        let mut target = match (&global.host, &global.context, &environment.host, &environment.context) {
            (Some(list), ..) if !list.is_empty() => listed(list),
            (_, Some(name), ..) => named(name),
            (_, _, Some(list), _) => listed(list),
            (_, _, _, Some(name)) => {
                named(&name.parse().map_err(|why| Failure::Usage(format!("WAIFU_CONTEXT: {why}")))?)
            }
            _ => match &settings.current {
                Some(name) => named(name),
                None => listed(&Endpoint::local().to_string()),
            },
        }?;
        let given = |option: &Option<PathBuf>, variable: &Option<PathBuf>| option.clone().or_else(|| variable.clone());
        target.token_file = given(&global.token_file, &environment.token_file).or(target.token_file);
        target.ca_file = given(&global.ca_file, &environment.ca_file).or(target.ca_file);
        Ok(target)
    }

    fn at(name: &ContextName, place: &Place) -> Self {
        Self {
            endpoints: place.hosts.iter().map(|host| host.0.clone()).collect(),
            token_file: place.token_file.clone(),
            ca_file: place.ca_file.clone(),
            context: Some(name.clone()),
            jump: place.jump.clone(),
        }
    }

    /// What a client is made of; the files are read.
    pub(crate) fn config(&self, global: &Global, environment: &Environment) -> Result<Config, Failure> {
        let mut config = Config::new(self.endpoints.clone());
        config.linearizable = global.consistency == Consistency::Linearizable;
        let named = global.token_file.is_some() || environment.token_file.is_some();
        config.token = match (&self.token_file, &environment.token) {
            // A token in the environment is nearer than a context's file, and a file that was named is nearer than that.
            (Some(file), None) => Some(read_text(file)?.trim().to_owned()),
            (Some(file), Some(_)) if named => Some(read_text(file)?.trim().to_owned()),
            (_, token) => token.clone(),
        };
        config.ca_pem = self.ca_file.as_deref().map(read).transpose()?;
        Ok(config)
    }

    /// Makes the client. Connects nowhere yet.
    pub(crate) fn client(&self, global: &Global, environment: &Environment) -> Result<Client, Failure> {
        Ok(Client::new(self.config(global, environment)?)?)
    }
}

/// The bytes of a file of the user's.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|source| Failure::File { path: path.display().to_string(), source })
}

/// The text of a file of the user's.
pub(crate) fn read_text(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|source| Failure::File { path: path.display().to_string(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    fn target(line: &str, environment: &Environment) -> Target {
        let settings: Settings = toml::from_str(
            "current = \"home\"\n[contexts.home]\nhosts = [\"https://n1\"]\ntoken_file = \"/t\"\n\
             [contexts.work]\nhosts = [\"https://w1\", \"https://w2\"]\nca_file = \"/ca\"",
        )
        .unwrap();
        let cli = crate::cli::Cli::try_parse_from(line.split(' ')).unwrap();
        Target::of(&cli.global, environment, &settings).unwrap()
    }

    fn shown(target: &Target) -> String {
        let list: Vec<_> = target.endpoints.iter().map(ToString::to_string).collect();
        format!("{} {:?} {:?}", list.join(","), target.token_file, target.ca_file)
    }

    #[test]
    fn the_nearest_word_counts() {
        let none = Environment::default();
        let host = Environment { host: Some("https://e1".to_owned()), ..none.clone() };
        let context = Environment { context: Some("work".to_owned()), ..none.clone() };
        for (line, environment, wanted) in [
            ("waifuctl ls", &none, r#"https://n1:7443 Some("/t") None"#),
            ("waifuctl ls --context work", &none, r#"https://w1:7443,https://w2:7443 None Some("/ca")"#),
            ("waifuctl ls --context work", &host, r#"https://w1:7443,https://w2:7443 None Some("/ca")"#),
            ("waifuctl ls", &context, r#"https://w1:7443,https://w2:7443 None Some("/ca")"#),
            // Another endpoint does not get the context's token.
            ("waifuctl ls", &host, "https://e1:7443 None None"),
            ("waifuctl ls -H https://o1 --token-file /o", &context, r#"https://o1:7443 Some("/o") None"#),
            ("waifuctl ls --ca-file /mine", &none, r#"https://n1:7443 Some("/t") Some("/mine")"#),
        ] {
            assert_eq!(shown(&target(line, environment)), wanted, "{line}");
        }
    }
}
