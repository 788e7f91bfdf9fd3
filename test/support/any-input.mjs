/** Inputs of a transformer of any size: `side` x `side` image tokens, `text` text tokens, the same values every time. */
export function anyInput({ config }, side, text) {
  const wave = (length, step) => Float32Array.from({ length }, (_, i) => Math.sin(step * i))
  const imgIds = new Float32Array(side * side * 3)
  for (let i = 0; i < side * side; i++) imgIds.set([0, Math.floor(i / side), i % side], 3 * i)
  return {
    img: wave(side * side * config.inChannels, 0.7),
    imgIds,
    txt: wave(text * config.contextInDim, 0.3),
    vec: wave(config.vecInDim, 0.11),
    timestep: 0.5,
    ...(config.guidanceEmbed ? { guidance: 3.5 } : {}),
  }
}
