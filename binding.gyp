{
  "variables": { "cpu_variants%": "<!(node -p \"process.env.GGFLUX_CPU_VARIANTS || 'all'\")" },
  "targets": [
    {
      "target_name": "ggflux",
      "type": "none",
      "actions": [
        {
          "action_name": "cmake",
          "inputs": [],
          "outputs": ["build/cmake/always"],
          "action": ["node", "scripts/build.mjs", "--variants", "<(cpu_variants)"]
        }
      ]
    }
  ]
}
