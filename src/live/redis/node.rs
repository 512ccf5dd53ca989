//! One server, its connections, and what is said over them.

use std::sync::Arc;

use ::redis::aio::ConnectionLike;
use ::redis::{
    Client, Cmd, ErrorKind, RedisResult, Script, ServerErrorKind, ToRedisArgs, Value, cmd, pipe,
};

use super::connections::{Commands, Pages};
use super::memory::Outlook;
use super::slots::Address;
use super::target::Target;

/// One server.
#[derive(Clone)]
pub(super) struct Node {
    /// Where it is.
    pub(super) address: Address,
    /// The connection that all short requests share.
    pub(super) commands: Commands,
    /// A few connections for large replies: on a shared one they would make everybody behind them wait.
    pub(super) pages: Pages,
    /// What was found when its memory was looked at.
    pub(super) outlook: Arc<Outlook>,
}

/// Which connection carries a request.
#[derive(Debug, Clone, Copy)]
pub(super) enum Over {
    /// The one that all short requests share.
    Commands,
    /// One of a few.
    Pages,
}

/// A command, and the script it calls by its hash.
pub(super) struct Request<'a> {
    cmd: Cmd,
    script: Option<&'a Script>,
    behind: Option<Cmd>,
}

impl<'a> Request<'a> {
    /// A call of a script on `keys`, all of one task.
    pub(super) fn script(script: &'a Script, keys: &[String]) -> Self {
        Self { script: Some(script), ..Self::resident(script, keys) }
    }

    /// The same of a script that must be in the server already.
    pub(super) fn resident(script: &Script, keys: &[String]) -> Self {
        let mut cmd = cmd("EVALSHA");
        cmd.arg(script.get_hash()).arg(keys.len()).arg(keys);
        Self { cmd, script: None, behind: None }
    }

    /// Has a command of the same server done right behind it, in the same round trip: the answer is then both
    /// answers, and nil where the second was refused.
    pub(super) fn followed_by(self, behind: Cmd) -> Self {
        Self { behind: Some(behind), ..self }
    }

    /// Adds an argument.
    pub(super) fn arg(mut self, value: impl ToRedisArgs) -> Self {
        self.cmd.arg(value);
        self
    }

    /// Sends it, loading the script where the server has forgotten it. `asking` has a server answer for a slot
    /// that is on its way there.
    async fn send(&self, to: &mut impl ConnectionLike, asking: bool) -> RedisResult<Value> {
        let sent = self.send_once(to, asking).await;
        match (&sent, self.script) {
            (Err(error), Some(script))
                if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) =>
            {
                script.load_async(to).await?;
                self.send_once(to, asking).await
            }
            _ => sent,
        }
    }

    async fn send_once(&self, to: &mut impl ConnectionLike, asking: bool) -> RedisResult<Value> {
        if !asking && self.behind.is_none() {
            return self.cmd.query_async(to).await;
        }
        // Each answers for itself: the caller is to know who refused, and why.
        let mut all = pipe();
        all.ignore_errors();
        if asking {
            all.cmd("ASKING").ignore();
        }
        all.add_command(self.cmd.clone());
        let Some(behind) = &self.behind else {
            let [answer]: [RedisResult<Value>; 1] = all.query_async(to).await?;
            return answer;
        };
        all.add_command(behind.clone());
        let [answer, behind]: [RedisResult<Value>; 2] = all.query_async(to).await?;
        Ok(Value::Array(vec![answer?, behind.unwrap_or(Value::Nil)]))
    }
}

impl From<Cmd> for Request<'_> {
    fn from(cmd: Cmd) -> Self {
        Self { cmd, script: None, behind: None }
    }
}

impl Node {
    /// Sends a request over one of its connections.
    pub(super) async fn send(
        &self,
        request: &Request<'_>,
        over: Over,
        asking: bool,
    ) -> RedisResult<Value> {
        match over {
            Over::Commands => request.send(&mut self.commands.clone(), asking).await,
            Over::Pages => request.send(&mut self.pages.clone(), asking).await,
        }
    }

    /// Prepares connections. None is made before it is needed, and each is made again after it was lost.
    pub(super) fn new(target: &Target, address: &Address) -> RedisResult<Self> {
        let info = target.connection(address);
        let commands = Commands::new(Client::open(info.clone())?)?;
        let (address, pages) = (address.clone(), Pages::new(info)?);
        Ok(Self { address, commands, pages, outlook: Arc::default() })
    }
}
