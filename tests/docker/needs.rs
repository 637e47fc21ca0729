//! What containers need of an engine and its machine: runtimes, devices, drivers, an architecture. What is missing is told before
//! anything is touched.

use crate::engines::killable::KillableEngine;
use crate::engines::objects::Image;
use crate::engines::{Engine, unique};
use crate::project::{Project, command};
use crate::scene::{Done, Scene, remove, tool};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A volume driver, as Docker's plugins for volumes are: JSON over HTTP on a socket in the engine's folder for them.
const DRIVER: &str = r#"
import http.server, json, os, socketserver, sys
path, folder = sys.argv[1:]
volumes = {}
def answer(call, name):
    if call == "Plugin.Activate": return {"Implements": ["VolumeDriver"]}
    if call == "VolumeDriver.Capabilities": return {"Capabilities": {"Scope": "local"}}
    if call == "VolumeDriver.List": return {"Volumes": [volumes[name] for name in volumes], "Err": ""}
    place = os.path.join(folder, name)
    if call == "VolumeDriver.Create":
        os.makedirs(place, exist_ok=True)
        volumes[name] = {"Name": name, "Mountpoint": place}
    elif name not in volumes: return {"Err": "no such volume"}
    elif call == "VolumeDriver.Remove":
        del volumes[name]
        for file in os.listdir(place): os.remove(os.path.join(place, file))
        os.rmdir(place)
    elif call == "VolumeDriver.Get": return {"Volume": volumes[name], "Err": ""}
    return {"Mountpoint": place, "Err": ""}
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "{}")
        body = json.dumps(answer(self.path[1:], asked.get("Name", ""))).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/vnd.docker.plugins.v1.1+json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def address_string(self): return "engine"
    def log_message(self, *words): pass
class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer): daemon_threads = True
server = Server(path, Handler)
print("listens", flush=True)
server.serve_forever()
"#;

struct Driver {
    name: String,
    child: Child,
    socket: PathBuf,
}

impl Driver {
    fn start(scene: &Scene) -> Self {
        let name = unique();
        let socket = scene.path("plugins").join(format!("{name}.sock"));
        ["plugins", "driver"]
            .into_iter()
            .for_each(|folder| std::fs::create_dir_all(scene.path(folder)).unwrap());
        let mut python = Command::new("python3");
        python.args(["-c", DRIVER]).arg(&socket).arg(scene.path("driver")).stdout(Stdio::piped());
        let mut child = python.spawn().unwrap();
        let mut line = [0; 7];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut line).unwrap();
        Self { name, child, socket }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.socket);
    }
}

const NEEDY: &str = "
services:
  one:
    image: IMAGE
    command: [sleep, infinity]
    init: true
    runtime: lbt
    devices: ['DEVICE:/dev/lbt']
    volumes: ['data:/data', 'FOLDER:/folder']
    labels: {lifeboat.exclude: /folder}
volumes: {data: {driver: DRIVER}}
";

#[test]
fn what_an_engine_and_its_machine_lack_is_told_before_anything_is_touched() {
    let scene = Scene::with_repository();
    let driver = Driver::start(&scene);
    let device = Path::new("/dev").join(unique());
    tool("mknod", &[device.to_str().unwrap(), "c", "1", "3"]);
    let engine = KillableEngine::start("graph");
    engine.kill();
    engine.restart_with("--add-runtime lbt=runc", &scene.path("plugins"));
    let folder = scene.path("elsewhere");
    std::fs::create_dir(&folder).unwrap();
    let text = NEEDY
        .replace("DEVICE", device.to_str().unwrap())
        .replace("DRIVER", &driver.name)
        .replace("FOLDER", folder.to_str().unwrap());
    let project = Project::up_from(&scene, &engine, &text);
    project.exec("one", "echo driven > /data/file");
    // Where it lies is the driver's business, so that it is read through the engine.
    project
        .lifeboat(&["snapshot", &format!("project:{}", project.name)])
        .expect(0)
        .says("through the engine");
    project.wipe();
    // All of it is there still.
    project.lifeboat(&["restore", "latest", "--to", "project:", "--start"]).expect(0);
    assert_eq!(project.exec("one", "cat /data/file; test -c /dev/lbt && echo device"), "driven\ndevice");
    let volume = engine.inspect("volume", &format!("{}_data", project.name));
    assert_eq!(volume["Driver"], driver.name.as_str());
    let runtime = engine.inspect("container", &project.container("one"))["HostConfig"]["Runtime"].clone();
    assert_eq!(runtime, "lbt");
    project.wipe();
    let name = driver.name.clone();
    drop(driver);
    remove(&device);
    remove(&folder);
    engine.kill();
    engine.restart();
    let before = engine.everything();
    let refused = project.lifeboat(&["restore", "latest", "--to", "project:"]).expect(1);
    let (container, folder) = (project.container("one"), folder.display());
    refused
        .says("the engine has no runtime `lbt`")
        .says(&format!("the engine has no volume driver `{name}`"))
        .says(&format!("device {} of {container} is not here", device.display()))
        .says(&format!("{folder}, which {container} mounts, is neither in the snapshot nor here"))
        .says("4 things are in the way; nothing was touched");
    assert_eq!(engine.everything(), before);
}

#[test]
fn an_image_for_another_kind_of_machine_is_told() {
    let engine = Engine::named("graph");
    let scene = Scene::with_repository();
    scene.write("root/hello", "foreign\n");
    tool("tar", &["-C", &scene.text("root"), "-cf", &scene.text("root.tar"), "."]);
    let image = Image::adopt(engine, &format!("lbt/{}:1", unique()));
    let theirs = if std::env::consts::ARCH == "aarch64" { "amd64" } else { "arm64" };
    engine.say(&["import", "--platform", &format!("linux/{theirs}"), &scene.text("root.tar"), &image.name]);
    let source = format!("image:{}", image.name);
    Done::of(command(&scene, engine).args(["snapshot", &source])).expect(0);
    image.remove();
    let restore = ["restore", "latest", "--to", "image:"];
    let remark = &format!("the image is for {theirs} and this engine's machine is ");
    Done::of(command(&scene, engine).args(restore).arg("--dry-run")).expect(0).prints(remark);
    Done::of(command(&scene, engine).args(restore)).expect(0).says(remark);
    assert_eq!(engine.inspect("image", &image.name)["Architecture"], theirs);
}
