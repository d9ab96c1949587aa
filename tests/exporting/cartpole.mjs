// Plays CartPole with an exported policy: node cartpole.mjs POLICY EPISODES prints the return of each episode.
import * as ort from "onnxruntime-web";

const [, , file, episodes] = process.argv;
const session = await ort.InferenceSession.create(file);

// Gymnasium's CartPole-v1: Euler steps of 0.02 s, a force of 10 N to either side.
function step([x, speed, angle, turning], action) {
  const force = action === 1 ? 10 : -10;
  const push = (force + 0.05 * turning ** 2 * Math.sin(angle)) / 1.1;
  const bend = (9.8 * Math.sin(angle) - Math.cos(angle) * push) / (0.5 * (4 / 3 - (0.1 * Math.cos(angle) ** 2) / 1.1));
  const acceleration = push - (0.05 * bend * Math.cos(angle)) / 1.1;
  return [x + 0.02 * speed, speed + 0.02 * acceleration, angle + 0.02 * turning, turning + 0.02 * bend];
}

let seed = 1;
function random() {
  seed = (1103515245 * seed + 12345) % 2147483648;
  return seed / 2147483648;
}

for (let episode = 0; episode < Number(episodes); episode++) {
  let state = [0, 0, 0, 0].map(() => 0.1 * random() - 0.05);
  let steps = 0;
  while (steps < 500 && Math.abs(state[0]) <= 2.4 && Math.abs(state[2]) <= (12 * Math.PI) / 180) {
    const outputs = await session.run({ obs: new ort.Tensor("float32", Float32Array.from(state), [1, 4]) });
    state = step(state, Number(outputs.action.data[0]));
    steps += 1;
  }
  console.log(steps);
}
