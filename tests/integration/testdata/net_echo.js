// net_echo.js HOST PORT MARKER: writes before it is connected, half-closes, reads to the end.
const net = require("net");
const [host, port, marker] = process.argv.slice(2);
const sent = Array.from({ length: 1000 }, (_, i) => `${i} ${marker}\n`).join("");
let got = "";
const s = net.connect({ host, port: Number(port), allowHalfOpen: true });
s.setNoDelay(true);
s.end(sent);
s.on("data", (block) => { got += block; });
s.on("end", () => console.log(got === sent ? "intact" : `${got.length} bytes`));
s.on("error", (e) => { console.error(e.code); process.exitCode = 1; });
