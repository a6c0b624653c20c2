//! A real Docker engine, and what docker-compose.yml makes of it.
//!
//! No image is pulled: [`Images`] are built on stand-ins for the base images, made from this machine's own programs. No tag
//! but ours is touched, and all that was made is removed on drop.

mod engine;
mod images;
mod project;
mod root;
mod user;

pub use engine::Docker;
pub use images::Images;
pub use project::{Profile, Project};
pub use user::User;
