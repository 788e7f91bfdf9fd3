/** The image among dragged or pasted things. */
export function imageAmong(data: DataTransfer | null): File | undefined {
  return [...(data?.files ?? [])].find(({ type }) => type.startsWith('image/'))
}
