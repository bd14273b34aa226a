// http_get.js URL: prints the SHA-256 of twenty answers, fetched at once by http.get.
const http = require("http"), crypto = require("crypto");
for (let i = 0; i < 20; i++) {
  http.get(process.argv[2], { agent: false }, (response) => {
    const hash = crypto.createHash("sha256");
    response.on("data", (block) => hash.update(block));
    response.on("end", () => console.log(hash.digest("hex")));
  }).on("error", (e) => { console.error(e.code); process.exitCode = 1; });
}
