//! What clients send besides what they ask for: a browser's headers, and a credential.

use std::fmt;
use std::fs;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use rand::rngs::SmallRng;

use crate::keys::{Distribution, Keys};

/// Which credentials, and where they stand.
#[derive(Debug, Clone, clap::Args)]
pub struct Settings {
    /// A file with a credential a line, all equally long; `loadtest credentials` writes one
    #[arg(long, value_name = "FILE")]
    pub credentials: Option<PathBuf>,
    /// The header that carries the credential
    #[arg(long, default_value = "authorization")]
    pub header: String,
    /// What stands before the credential in its header
    #[arg(long, default_value = "")]
    pub prefix: String,
    /// How often each credential is used: uniform, zipf or zipf:EXPONENT
    #[arg(long, default_value_t)]
    pub distribution: Distribution,
    /// Each credential is used once, in their order; a request for which none is left counts as an error
    #[arg(long, conflicts_with = "distribution", requires = "credentials")]
    pub once: bool,
}

/// The credentials of a load, in the order in which they are sent.
#[derive(Debug)]
pub struct Sent {
    header: String,
    distribution: Distribution,
    credentials: Vec<String>,
    order: Order,
}

#[derive(Debug)]
enum Order {
    Fixed,
    Drawn(Keys),
    Once(AtomicUsize),
}

/// Why no requests can be made up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The credentials cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file does not fit into a template.
    #[error("{}: wants at least one credential, and all equally long", .0.display())]
    Credentials(PathBuf),
    /// The distribution cannot be drawn from.
    #[error("cannot draw from {0} credentials with distribution {1}")]
    Keys(usize, Distribution),
}

/// What the token is made of in requests whose credential stands elsewhere.
const FILLER: usize = 1065;

impl Settings {
    /// The headers of a browser's request behind a proxy, one of them with `credential` unless that is empty.
    pub(super) fn headers(&self, credential: &str) -> Vec<(String, String)> {
        let token = format!("Bearer {}", "t".repeat(FILLER));
        let other = if self.header == "cookie" { "x-app" } else { "cookie" };
        let mut headers = vec![
            ("accept", "application/json, text/plain, */*"),
            ("accept-encoding", "gzip, deflate, br"),
            ("accept-language", "en-GB,en;q=0.9,de;q=0.7"),
            ("authorization", token.as_str()),
            ("referer", "https://shop.example.com/orders"),
            ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"),
            ("x-envoy-internal", "true"),
            ("x-forwarded-for", "10.4.2.9"),
            ("x-forwarded-proto", "https"),
            ("x-request-id", "f2b1c7de-3a55-4a0e-9b43-0c5a6bd0c1f7"),
            (other, "theme=dark; consent=yes"),
        ];
        let credential = format!("{}{credential}", self.prefix);
        if credential.len() > self.prefix.len() {
            headers.retain(|(name, _)| *name != self.header);
            headers.push((&self.header, &credential));
        }
        headers.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }
}

impl Sent {
    /// Reads the credentials, if there are any.
    pub fn new(settings: &Settings) -> Result<Self, Error> {
        let Settings { header, distribution, once, .. } = settings;
        let credentials = settings.credentials.as_ref().map_or(Ok(Vec::new()), read)?;
        let order = match credentials.len() {
            0 => Order::Fixed,
            _ if *once => Order::Once(AtomicUsize::new(0)),
            count => {
                let fail = || Error::Keys(count, *distribution);
                let count = u32::try_from(count).ok().and_then(NonZeroU32::new).ok_or_else(fail)?;
                Order::Drawn(Keys::new(count, *distribution).ok_or_else(fail)?)
            }
        };
        Ok(Self { header: header.clone(), distribution: *distribution, credentials, order })
    }

    /// How long each of them is.
    pub fn width(&self) -> usize {
        self.credentials.first().map_or(0, String::len)
    }

    /// The next request's; empty without any.
    pub fn draw(&self, rng: &mut SmallRng) -> &str {
        let index = match &self.order {
            Order::Fixed => return "",
            Order::Drawn(keys) => keys.draw(rng) as usize,
            Order::Once(next) => next.fetch_add(1, Ordering::Relaxed) % self.credentials.len(),
        };
        self.credentials.get(index).map_or("", String::as_str)
    }

    /// An error once some credential must have been used a second time that was to be used once.
    pub fn check(&self) -> Result<(), String> {
        match &self.order {
            Order::Once(next) if next.load(Ordering::Relaxed) > self.credentials.len() => {
                Err("no unused credential is left".to_owned())
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { header, distribution, .. } = self;
        match (&self.order, self.credentials.len()) {
            (Order::Fixed, _) => f.write_str("no credentials"),
            (Order::Drawn(_), count) => write!(f, "{count} credentials {distribution} in {header}"),
            (Order::Once(_), count) => write!(f, "{count} credentials once each in {header}"),
        }
    }
}

fn read(path: &PathBuf) -> Result<Vec<String>, Error> {
    let text = fs::read_to_string(path).map_err(|source| Error::Read { path: path.clone(), source })?;
    let credentials: Vec<_> = text.lines().map(str::to_owned).collect();
    let width = credentials.first().map_or(0, String::len);
    let even = width > 0 && credentials.iter().all(|credential| credential.len() == width);
    if even { Ok(credentials) } else { Err(Error::Credentials(path.clone())) }
}
