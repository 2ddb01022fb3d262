// Makes 60 calls over one channel and prints how many each server has answered, most first.
const grpc = require("@grpc/grpc-js");

const client = new grpc.Client(process.argv[2], grpc.credentials.createInsecure());
const pod = (reply) => reply.subarray(2, 2 + reply[1]).toString(); // the first field, a string: key, length, text
const call = () =>
  new Promise((resolve, reject) =>
    client.makeUnaryRequest("/mizzen.test.echo.v1.Echo/Call", (b) => b, pod, Buffer.alloc(0), { deadline: Date.now() + 10000 },
      (err, reply) => (err ? reject(err) : resolve(reply))));

(async () => {
  const answered = {};
  for (let i = 0; i < 60; i++) {
    const by = await call();
    answered[by] = (answered[by] || 0) + 1;
  }
  console.log(Object.values(answered).sort((a, b) => b - a).join(" "));
  client.close();
})();
