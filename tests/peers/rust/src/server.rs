//! Its runtime with the tools that the checks need.

use std::sync::Arc;
use std::time::Duration;

use arcp::ARCPError;
use arcp::auth::BearerAuthenticator;
use arcp::messages::{Capabilities, ResultChunkEncoding};
use arcp::runtime::{ARCPRuntime, ToolContext, ToolHandler, ToolRegistryBuilder};
use arcp::transport::websocket::WebSocketTransport;
use async_trait::async_trait;
use serde_json::{Value, json};

/// A tool by name.
struct Tool(&'static str);

const TOOLS: [&str; 5] = ["echo", "ticker", "chunker", "sleeper", "failer"];

#[async_trait]
impl ToolHandler for Tool {
    fn name(&self) -> &str {
        self.0
    }

    async fn invoke(&self, input: Value, job: ToolContext) -> Result<Value, ARCPError> {
        match self.0 {
            "echo" => Ok(input),
            "ticker" => {
                let count = input["count"].as_u64().unwrap_or(20);
                for n in 0..count {
                    job.charge("tick", n as f64, "count").await?;
                }
                Ok(json!({"emitted": count}))
            }
            "chunker" => {
                let chunks = input["chunks"].as_u64().unwrap_or(3);
                for n in 0..chunks {
                    let data = char::from(b'a' + (n % 26) as u8).to_string().repeat(100);
                    job.emit_result_chunk("res_1", n, data, ResultChunkEncoding::Utf8, n + 1 < chunks).await?;
                }
                Ok(Value::Null)
            }
            "sleeper" => {
                // Until it is cancelled: nobody here waits for its end.
                std::future::pending().await
            }
            _ => Err(ARCPError::Internal { detail: "boom".into() }),
        }
    }
}

/// Serves until it is ended.
pub async fn serve() {
    let tools = TOOLS.iter().fold(ToolRegistryBuilder::new(), |tools, name| tools.with(Arc::new(Tool(name))));
    let runtime = ARCPRuntime::builder()
        .with_authenticator(Box::new(BearerAuthenticator::new().with_token("tok-alice", "alice")))
        .with_capabilities(Capabilities { streaming: Some(true), subscriptions: Some(true), ..Default::default() })
        .with_tools(tools.build())
        .build()
        .await
        .expect("it builds");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    println!("READY ws://{}/arcp", listener.local_addr().expect("an address"));
    loop {
        let (socket, _) = listener.accept().await.expect("a connection");
        let runtime = runtime.clone();
        tokio::spawn(async move {
            // As published it does not, and each call takes 44 ms: nothing is
            // won by comparing with that.
            socket.set_nodelay(true).expect("no delay");
            if let Ok(socket) = tokio_tungstenite::accept_async(socket).await {
                let _ = runtime.serve_connection(WebSocketTransport::accept_stream(socket)).await;
            }
        });
    }
}
