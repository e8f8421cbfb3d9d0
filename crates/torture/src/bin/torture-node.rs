//! One node of a torture run.

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    torture::node::serve().await
}
