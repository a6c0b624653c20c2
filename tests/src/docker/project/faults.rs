//! What befalls a project's containers.

use super::{Project, SOON};
use crate::eventually;

impl Project {
    /// Lets a service's process die as in a crash, and waits until the engine has started it again: a container that
    /// `docker kill` ends stays down.
    ///
    /// # Panics
    /// When it is not restarted.
    pub async fn crash(&self, service: &str) {
        let before = self.inspect(service).await;
        let kill = format!("kill -KILL {}", before["State"]["Pid"]);
        let nats = self.images.tag("nats");
        let args = ["run", "--rm", "--pid=host", "--network=none", "--user=0:0", "--entrypoint=sh", &nats, "-c", &kill];
        self.docker(&args).await;
        eventually(&format!("{service} is started again"), SOON, || async {
            let now = self.inspect(service).await;
            let again = now["RestartCount"].as_u64() > before["RestartCount"].as_u64();
            (again && now["State"]["Running"] == true).then_some(())
        })
        .await;
    }

    /// `docker kill`.
    ///
    /// # Panics
    /// When the engine does not.
    pub async fn kill(&self, service: &str) {
        let id = self.container(service).await;
        self.docker(&["kill", &id]).await;
    }

    /// Takes a service's container off the network.
    ///
    /// # Panics
    /// When the engine does not.
    pub async fn disconnect(&self, service: &str) {
        let id = self.container(service).await;
        self.docker(&["network", "disconnect", &self.network(), &id]).await;
    }

    /// Puts it there again.
    ///
    /// # Panics
    /// When the engine does not.
    pub async fn connect(&self, service: &str) {
        let id = self.container(service).await;
        self.docker(&["network", "connect", "--alias", service, &self.network(), &id]).await;
    }

    fn network(&self) -> String {
        format!("{}_default", self.name)
    }
}
