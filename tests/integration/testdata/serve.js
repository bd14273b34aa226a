// serve.js PORT FILE: HTTP. GET gives the file, POST what was sent.
const fs = require("fs"), http = require("http");
http.createServer((request, response) => {
  response.setHeader("X-Client", request.socket.remoteAddress);
  if (request.method === "POST") request.pipe(response);
  else fs.createReadStream(process.argv[3]).pipe(response);
}).listen(Number(process.argv[2]), "127.0.0.1");
