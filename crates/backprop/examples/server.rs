//! One model, many clients: a server on this machine's loopback whose threads share a model. Each request is a line of numbers, each
//! answer a line with the class and its probability. It answers eight clients and ends.

use backprop::{
    config::Config,
    core::{Isa, exec::native::Native},
    data::coding::RawInput,
    model::Model,
    prelude::*,
    run::Run,
};
use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex, mpsc},
    thread,
};

const CLIENTS: usize = 8;
/// The host's threads, each with one request at a time; the model's own work takes one thread per request.
const THREADS: usize = 4;

const CONFIG: &str = r#"
data = { source = "clusters", rows = 400, features = 4, classes = 3 }
layers = [{ type = "linear", out_features = 16 }, { type = "relu" }, { type = "linear", out_features = 3 }]
loss = { type = "cross_entropy" }
optimizer = { type = "adam", learning_rate = 0.01 }
"#;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let place = tempfile::tempdir()?;
    let config = Config::parse("server.toml", CONFIG, "".as_ref(), &[])?;
    let run = Run::create(&place.path().join("run"), &config)?;
    Trainer::new(config, &Native::new(2, Isa::detect()))?.train(Some(&run), &mut |_| {})?;
    let model = Arc::new(Model::load(run.folder())?);

    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let (sender, receiver) = mpsc::channel::<TcpStream>();
    let receiver = Arc::new(Mutex::new(receiver));
    let workers: Vec<_> = (0..THREADS)
        .map(|_| {
            let (model, receiver) = (Arc::clone(&model), Arc::clone(&receiver));
            thread::spawn(move || {
                while let Ok(stream) = { receiver.lock().map(|r| r.recv()).unwrap_or(Err(mpsc::RecvError)) } {
                    if let Err(error) = answer(&model, stream) {
                        println!("a client left: {error}");
                    }
                }
            })
        })
        .collect();
    let clients: Vec<_> = (0..CLIENTS).map(|i| thread::spawn(move || ask(address, i))).collect();
    for stream in listener.incoming().take(CLIENTS) {
        sender.send(stream?)?;
    }
    drop(sender);
    for (i, client) in clients.into_iter().enumerate() {
        let said = client.join().map_err(|_| "a client panicked")??;
        println!("client {i}: {said}");
        let direct = model.predict(&RawInput::Numbers(&point(i)))?;
        assert_eq!(said, line(&direct.label(0), direct.confidence(0)));
    }
    workers.into_iter().for_each(|worker| drop(worker.join()));
    Ok(())
}

fn line(label: &str, confidence: f32) -> String {
    format!("{label} {confidence}")
}

fn point(client: usize) -> [f32; 4] {
    [client as f32 - 4.0, 1.0, -0.5 * client as f32, 0.25]
}

/// Answers one request; what is wrong with it is an answer too.
fn answer(model: &Model, mut stream: TcpStream) -> std::io::Result<()> {
    let mut request = String::new();
    BufReader::new(stream.try_clone()?).read_line(&mut request)?;
    let reply = match model.predict(&RawInput::Bytes("request", request.as_bytes())) {
        Ok(predictions) => line(&predictions.label(0), predictions.confidence(0)),
        Err(error) => format!("error: {error}"),
    };
    writeln!(stream, "{reply}")
}

fn ask(address: std::net::SocketAddr, client: usize) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    let numbers: Vec<String> = point(client).iter().map(ToString::to_string).collect();
    writeln!(stream, "{}", numbers.join(","))?;
    let mut reply = String::new();
    BufReader::new(stream).read_line(&mut reply)?;
    Ok(reply.trim_end().to_owned())
}
