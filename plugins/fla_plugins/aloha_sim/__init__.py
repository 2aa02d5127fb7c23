"""The benchmark `aloha_sim`: gym-aloha's bimanual MuJoCo tasks, with experts that demonstrate them."""
