/** What time limits are multiplied with: sanitizers make everything slower. */
export const patience = process.env.GGFLUX_SANITIZED ? 20 : 1
