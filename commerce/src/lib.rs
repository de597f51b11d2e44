//! Payments of any provider become entitlements: payment event → entitlement → grant.
//!
//! Not built yet: this crate holds its place in the workspace.
