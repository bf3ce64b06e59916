// IEEE half precision as 16-bit integers, as buffers hold it.

export const fromHalf = (bits: number): number => new Float16Array(Uint16Array.of(bits).buffer)[0] as number;
export const toHalf = (value: number): number => new Uint16Array(Float16Array.of(value).buffer)[0] as number;
